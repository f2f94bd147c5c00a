package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/agenttest"
	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// When the table of connections is full, more of them pass unobserved; but where a limit has to hold, none passes that
// cannot be counted.
func TestFlowTableFull(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	limited := fmt.Sprintf("- {name: limited, match: {addresses: [%q]}, limits: {maxConnections: 100}}\n", p.neighbour)
	startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, threeFailures...)+limited, p.interfaces, "--max-flows", "16")
	var open []*loadgen.Client
	for range 40 {
		c := client(t, p.client, p.backend)
		wantStatus(t, call(t, c), 200)
		open = append(open, c)
	}
	for _, c := range open {
		wantStatus(t, call(t, c), 200)
	}
	followed, _ := metric(t, p.node, "cbagent_flows")
	if followed < 8 || followed >= 16 {
		t.Errorf("%v connections are followed, want all but the reserve of 16", followed)
	}
	if n, _ := metric(t, p.node, "cbagent_packets_total", `reason="table-full"`, `action="pass"`); n == 0 {
		t.Error("no packet passed for table-full")
	}
	// The reserve is for those that must be counted.
	var counted []*loadgen.Client
	for n := followed; n < 16; n++ {
		c := client(t, p.client, p.neighbour)
		wantStatus(t, call(t, c), 200)
		counted = append(counted, c)
	}
	before := p.other.Counts()
	for range 3 {
		wantAnswer(t, call(t, client(t, p.client, p.neighbour)), "connection-limit")
	}
	if n := p.other.Counts().Sub(before).Connections; n != 0 {
		t.Errorf("the backend saw %d connections that were rejected", n)
	}
	if n, _ := metric(t, p.node, "cbagent_packets_total", `reason="table-full"`, `action="respond"`); n == 0 {
		t.Error("no packet was answered for table-full")
	}
	for _, c := range append(open, counted...) {
		c.Close()
	}
	wantMetric(t, p, 0, "cbagent_flows")
	wantStatus(t, call(t, client(t, p.client, p.neighbour)), 200)
	openCircuitOf(t, p)
}

// openCircuitOf lets p's backend fail until its clients are answered by the kernel.
func openCircuitOf(t *testing.T, p place) {
	t.Helper()
	p.server.Set(testserver.Behaviour{Status: 500})
	eventually(t, "the circuit opens", func() bool {
		_, kernel := call(t, client(t, p.client, p.backend)).FromKernel()
		return kernel
	})
}

// isEnforced waits until clients of a backend whose policy is forced open are rejected, or are not.
func isEnforced(t *testing.T, from *netlab.Namespace, at netip.AddrPort, want bool) {
	t.Helper()
	eventually(t, fmt.Sprintf("enforced: %v", want), func() bool {
		c := &loadgen.Client{Dial: from.DialContext, Target: at, Timeout: time.Second}
		defer c.Close()
		r := c.Do(soon(t), loadgen.Request{})
		_, kernel := r.FromKernel()
		return kernel == want && (want || r.Status == 200)
	})
}

// goneInterface is in the line of an agent that does something to an interface while it is deleted.
const goneInterface = "cannot attach to the interface.*(Link not found|no such device)"

// Interfaces come, go and change their names while clients call: programs are where they belong, and nobody else's calls
// suffer.
func TestInterfacesComeAndGo(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"tcx", "clsact", "pinned"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			p := places["IPv4"](t)
			at := netip.MustParseAddrPort("10.21.200.2:8080")
			policy := policyOf([]netip.AddrPort{p.backend, p.neighbour}, threeFailures...) +
				fmt.Sprintf("- {name: guest, mode: forced-open, match: {addresses: [%q]}}\n", at)
			var agent *agenttest.Agent
			switch mode {
			case "pinned":
				agent = newLineage(t, p.node, policy).start()
			case "clsact":
				agent = startAgent(t, p.node, policy, p.interfaces, "--clsact")
			default:
				agent = startAgent(t, p.node, policy, p.interfaces)
			}
			agent.Allow(goneInterface)
			stop := background(t, loadgen.Load{Dial: p.client.DialContext, Targets: []netip.AddrPort{p.backend, p.neighbour}, Workers: 2, Rate: 100, Every: 3})
			for i := range 8 {
				lab := &netlab.Lab{}
				guest, err := lab.Namespace("guest")
				if err != nil {
					t.Fatal(err)
				}
				name := fmt.Sprintf("be20%d", i%3)
				if i%2 == 1 {
					name = "xx200" // no name that the agent attaches to
				}
				err = lab.Veth(
					netlab.End{In: p.node, Interface: name, Addresses: []netip.Prefix{netip.MustParsePrefix("10.21.200.1/24")}},
					netlab.End{In: guest, Interface: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.21.200.2/24")}})
				if err != nil {
					t.Fatal(err)
				}
				if err := guest.Route(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.21.200.1")); err != nil {
					t.Fatal(err)
				}
				server, err := testserver.New(guest.Listen, at)
				if err != nil {
					t.Fatal(err)
				}
				if name == "xx200" {
					isEnforced(t, p.client, at, false)
					rename(t, p.node, name, "be201")
				}
				isEnforced(t, p.client, at, true)
				if i%4 == 0 {
					rename(t, p.node, name, "yy200")
					isEnforced(t, p.client, at, false)
					rename(t, p.node, "yy200", name)
					isEnforced(t, p.client, at, true)
				}
				if i%3 == 0 {
					// With the interface, not with the namespace, and a connection open.
					if link, err := p.node.Links().LinkByName(name); err == nil {
						if err := p.node.Links().LinkDel(link); err != nil {
							t.Fatal(err)
						}
					}
				}
				if err := server.Close(); err != nil {
					t.Error(err)
				}
				if err := lab.Close(); err != nil {
					t.Error(err)
				}
				eventually(t, "the interface is gone", func() bool {
					left, err := p.node.Links().LinkList()
					if err != nil {
						t.Fatal(err)
					}
					return len(left) == 4 // lo, cl0, be1, be2
				})
			}
			got := stop()
			if got.Requests != got.ByOutcome["200"] || got.Requests < 100 {
				t.Errorf("clients of the others got %v, want nothing but 200", got.ByOutcome)
			}
			openCircuitOf(t, p)
		})
	}
}

// rename gives an interface another name.
func rename(t *testing.T, in *netlab.Namespace, from, to string) {
	t.Helper()
	l, err := in.Links().LinkByName(from)
	if err != nil {
		t.Fatal(err)
	}
	up := l.Attrs().Flags&net.FlagUp != 0
	if err := in.Links().LinkSetDown(l); err != nil {
		t.Fatal(err)
	}
	if err := in.Links().LinkSetName(l, to); err != nil {
		t.Fatal(err)
	}
	if up {
		if err := in.Links().LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
	}
}
