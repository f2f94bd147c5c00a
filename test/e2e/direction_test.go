package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// TestEachDirectionHasItsClients has every kind of client call every kind of backend of a node: those whom a policy
// speaks of are rejected as it says, and all others get through, with the same agent and at the same time.
func TestEachDirectionHasItsClients(t *testing.T) {
	t.Parallel()
	directions, rejects := []string{"outbound", "inbound"}, []string{"respond", "reset", "drop"}
	for _, mode := range []string{"tcx", "clsact"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			star := newStar(t, netlab.Options{Backends: 1, Remote: true})
			pod := star.Backends[0]
			file := "version: 1\npolicies:\n"
			var first uint16 = port
			ports := map[string]uint16{"": first}
			for _, direction := range directions {
				for _, with := range rejects {
					first++
					ports[direction+" "+with] = first
					file += fmt.Sprintf("- name: %s-%s\n  mode: forced-open\n  direction: %s\n  reject: {with: %s}\n  match:\n    addresses:\n",
						direction, with, direction, with)
					for _, addr := range []netip.Addr{pod.IPv4, pod.IPv6, netlab.NodeIPv4, netlab.NodeIPv6} {
						file += fmt.Sprintf("    - %q\n", netip.AddrPortFrom(addr, first))
					}
				}
			}
			for _, p := range ports {
				serve(t, pod.Namespace, netip.AddrPortFrom(pod.IPv4, p), netip.AddrPortFrom(pod.IPv6, p))
				serve(t, star.Node, netip.AddrPortFrom(netlab.NodeIPv4, p), netip.AddrPortFrom(netlab.NodeIPv6, p))
			}
			flags := []string{}
			if mode == "clsact" {
				flags = append(flags, "--clsact")
			}
			startAgent(t, star.Node, file, []string{"be*", "cl*", "up*", "lo"}, flags...)
			var calls sync.WaitGroup
			defer calls.Wait()
			for _, from := range []*netlab.Namespace{star.Client, star.Node, star.Remote} {
				for _, to := range []netip.Addr{pod.IPv4, pod.IPv6, netlab.NodeIPv4, netlab.NodeIPv6} {
					calls.Go(func() {
						for named, p := range ports {
							got := outcome(t, from, netip.AddrPortFrom(to, p))
							if want := wanted(from == star.Remote, named); got != want {
								t.Errorf("%s to %s, port of %q: %s, want %s", from.Name(), to, named, got, want)
							}
						}
					})
				}
			}
		})
	}
}

// wanted is what a client gets at the port that a policy of some direction and way to reject has.
func wanted(remote bool, named string) string {
	direction, with, _ := strings.Cut(named, " ")
	if named == "" || remote != (direction == "inbound") {
		return "200"
	}
	return map[string]string{"respond": "503 of the kernel", "reset": string(loadgen.ConnectRefused), "drop": string(loadgen.ConnectTimeout)}[with]
}

// outcome calls once, with little patience.
func outcome(t *testing.T, from *netlab.Namespace, to netip.AddrPort) string {
	t.Helper()
	c := client(t, from, to)
	c.Timeout = 500 * time.Millisecond
	defer c.Close()
	r := call(t, c)
	if _, kernel := r.FromKernel(); kernel {
		return r.Outcome() + " of the kernel"
	}
	return r.Outcome()
}
