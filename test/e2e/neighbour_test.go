package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/lab/agenttest"
	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// host is a backend that can be switched off, and the node's interface that it is behind.
type host struct {
	t     *testing.T
	node  *netlab.Namespace
	home  *netlab.Namespace // its interface is eth0
	iface string            // of the node
	addrs []netip.Prefix    // of the host, those of the node are one less
}

// newHost makes a host of the star's first backend. The node finds out in a second and a half that it does not answer.
func newHost(t *testing.T, star *netlab.Star) host {
	t.Helper()
	b := star.Backends[0]
	h := host{t: t, node: star.Node, home: b.Namespace, iface: b.Interface, addrs: []netip.Prefix{
		netip.PrefixFrom(b.IPv4, 24), netip.PrefixFrom(b.IPv6, 64),
	}}
	for _, family := range []string{"ipv4", "ipv6"} {
		set(t, h.node, "net."+family+".neigh."+h.iface+".retrans_time_ms", "500")
	}
	h.forget()
	return h
}

// forget removes the node's entries of the host, which netlab makes permanent ones.
func (h host) forget() {
	h.t.Helper()
	d, err := h.node.Links().LinkByName(h.iface)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, p := range h.addrs {
		err := h.node.Links().NeighDel(&netlink.Neigh{LinkIndex: d.Attrs().Index, IP: p.Addr().AsSlice()})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			h.t.Fatal(err)
		}
	}
}

// off switches the host off: nobody answers for its addresses, and the node has found out.
func (h host) off() {
	h.t.Helper()
	h.unplug()
	h.forget()
}

// unplug switches it off, and the node believes that it is there.
func (h host) unplug() {
	h.t.Helper()
	d, err := h.home.Links().LinkByName("eth0")
	if err != nil {
		h.t.Fatal(err)
	}
	for _, p := range h.addrs {
		a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
		if err := h.home.Links().AddrDel(d, a); err != nil {
			h.t.Fatal(err)
		}
	}
}

// on switches it on again, with another card. It does not speak before it is asked.
func (h host) on() {
	h.t.Helper()
	d, err := h.home.Links().LinkByName("eth0")
	if err == nil {
		err = h.home.Links().LinkSetHardwareAddr(d, net.HardwareAddr{2, 0, 0, 0, 0, 99})
	}
	for i, p := range h.addrs {
		if err == nil {
			err = h.home.Address("eth0", p)
		}
		if err == nil {
			err = h.home.Route([]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}[i], p.Addr().Prev())
		}
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// entry returns the node's entry of an address; nil if there is none.
func (h host) entry(of netip.Addr) *netlink.Neigh {
	h.t.Helper()
	all, err := h.node.Links().NeighList(0, unix.AF_UNSPEC)
	if err != nil {
		h.t.Fatal(err)
	}
	for i := range all {
		if a, ok := netip.AddrFromSlice(all[i].IP); ok && a.Unmap() == of {
			return &all[i]
		}
	}
	return nil
}

// valid reports whether the node has a link-layer address for an address, right or wrong.
func (h host) valid(of netip.Addr) bool {
	e := h.entry(of)
	return e != nil && e.State&(unix.NUD_REACHABLE|unix.NUD_STALE|unix.NUD_DELAY|unix.NUD_PROBE) != 0
}

// twoUnreachable opens a circuit after two attempts that found nobody.
var twoUnreachable = []string{
	"trip: [{consecutiveFailures: {count: 2, of: [unreachable]}}]", "halfOpen: {calls: 1}",
}

// openDead lets clients find nobody until the circuit opens.
func openDead(t *testing.T, agent *agenttest.Agent, from *netlab.Namespace, at netip.AddrPort, began time.Time) {
	t.Helper()
	agent.Expect(deadNeighbour)
	callUntilOpen(t, agent, from, at, began)
}

// deadNeighbour is in the line of an agent that has found a neighbour dead.
const deadNeighbour = "neighbour does not answer"

// callUntilOpen lets clients fail until the circuit opens.
func callUntilOpen(t *testing.T, agent *agenttest.Agent, from *netlab.Namespace, at netip.AddrPort, began time.Time) {
	t.Helper()
	eventually(t, "the circuit opens", func() bool {
		c := client(t, from, at)
		c.Timeout = 500 * time.Millisecond
		call(t, c)
		_, found, _ := agent.Find(at.String(), "open", began)
		return found
	})
}

// A backend whose host is off: its circuit opens though no hook sees a packet, its clients are answered at once, no client is
// needed to find out that it is still off, and it is found when it is back with another card.
func TestDeadNeighbour(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		for _, from := range []string{"client", "host process"} {
			t.Run(fmt.Sprintf("%s v6=%v", from, v6), func(t *testing.T) {
				t.Parallel()
				star := newStar(t, netlab.Options{Backends: 2})
				h := newHost(t, star)
				p := backendsPlace(t, star, v6)
				if from == "host process" {
					p.client = p.node
				}
				agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, append(twoUnreachable, "open: {duration: 5s, backoff: none}")...), []string{"*"})
				wantStatus(t, call(t, client(t, p.client, p.backend)), 200)
				h.off()
				began := time.Now()
				openDead(t, agent, p.client, p.backend, began)
				if n, _ := metric(t, p.node, "cbagent_outcomes_total", `outcome="unreachable"`); n < 2 {
					t.Errorf("%v attempts are counted as unreachable, want 2 or more", n)
				}
				if n, _ := metric(t, p.node, "cbagent_outcomes_total", `outcome="connect-timeout"`); n != 0 {
					t.Errorf("%v attempts are counted as connect-timeout", n)
				}
				wantAnswer(t, call(t, client(t, p.client, p.backend)), "open")
				start := time.Now()
				wantAnswer(t, call(t, client(t, p.client, p.backend)), "open")
				if took := time.Since(start); took > time.Second {
					t.Errorf("a client waited for %s", took)
				}
				if e := h.entry(p.backend.Addr()); e != nil && e.State&(unix.NUD_PERMANENT|unix.NUD_NOARP) != 0 {
					t.Errorf("the entry is in state %#x", e.State)
				}

				// Nobody calls, and the next probe fails.
				opened, found, _ := agent.Find(p.backend.String(), "open", began)
				if !found {
					t.Fatal("the circuit did not open")
				}
				again, err := agent.Await(soon(t), p.backend.String(), "open", opened.At.Add(time.Millisecond))
				if err != nil {
					t.Fatal(err)
				}
				if again.Reason != "probeFailed" || again.From != "half-open" {
					t.Errorf("%s from %s, want probeFailed from half-open", again.Reason, again.From)
				}
				wantAnswer(t, call(t, client(t, p.client, p.backend)), "open")

				h.on()
				eventually(t, "the circuit closes", func() bool {
					c := client(t, p.client, p.backend)
					c.Timeout = 500 * time.Millisecond
					r := call(t, c)
					_, kernel := r.FromKernel()
					return r.Status == 200 && !kernel
				})
				wantStatus(t, call(t, client(t, p.node, p.neighbour)), 200)
			})
		}
	}
}

// Answers that host processes get look to the kernel like signs of life of the neighbour, whose entry it then keeps. A host that
// is back with another card is found all the same.
func TestNeighbourThatSeemsAlive(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("v6=%v", v6), func(t *testing.T) {
			t.Parallel()
			star := newStar(t, netlab.Options{Backends: 2})
			h := newHost(t, star)
			for _, family := range []string{"ipv4", "ipv6"} {
				set(t, h.node, "net."+family+".neigh."+h.iface+".base_reachable_time_ms", "1000")
				set(t, h.node, "net."+family+".neigh."+h.iface+".delay_first_probe_time", "1")
			}
			p := backendsPlace(t, star, v6)
			agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, "trip: [{consecutiveFailures: 2}]", "halfOpen: {calls: 1}",
				"outcome: {connectTimeout: 300ms}", "open: {duration: 3s, backoff: none}"), []string{"*"})
			c := client(t, p.node, p.backend)
			wantStatus(t, call(t, c), 200)
			c.Close() // or the server speaks, to see whether it is there
			began := time.Now()
			h.unplug()
			agent.Allow(deadNeighbour)
			callUntilOpen(t, agent, p.node, p.backend, began)
			wantAnswer(t, call(t, client(t, p.node, p.backend)), "open")
			h.on()
			eventually(t, "the host is found", func() bool {
				c := client(t, p.node, p.backend)
				c.Timeout = 500 * time.Millisecond
				r := call(t, c)
				_, kernel := r.FromKernel()
				return r.Status == 200 && !kernel
			})
		})
	}
}

// A policy that resets does so at once, too.
func TestDeadNeighbourReset(t *testing.T) {
	t.Parallel()
	star := newStar(t, netlab.Options{Backends: 1})
	h := newHost(t, star)
	at := netip.AddrPortFrom(star.Backends[0].IPv4, port)
	agent := startAgent(t, star.Node, policyOf([]netip.AddrPort{at}, append(twoUnreachable, "open: {duration: 5m, max: 5m}", "reject: {with: reset}")...), []string{"*"})
	began := time.Now()
	h.off()
	openDead(t, agent, star.Node, at, began)
	for _, from := range []*netlab.Namespace{star.Node, star.Client} {
		eventually(t, "clients are reset", func() bool { return call(t, client(t, from, at)).Class == loadgen.ConnectRefused })
	}
}

// Without the hold the kernel's table is the kernel's own.
func TestNeighbourHoldSwitchedOff(t *testing.T) {
	t.Parallel()
	star := newStar(t, netlab.Options{Backends: 1})
	h := newHost(t, star)
	at := netip.AddrPortFrom(star.Backends[0].IPv4, port)
	agent := startAgent(t, star.Node, policyOf([]netip.AddrPort{at}, append(twoUnreachable, "open: {duration: 5m, max: 5m}")...), []string{"*"},
		"--neighbour-hold=false")
	began := time.Now()
	h.off()
	openDead(t, agent, star.Node, at, began)
	for range 3 {
		if _, err := star.Node.DialContext(soon(t), "tcp", at.String()); !errors.Is(err, syscall.EHOSTUNREACH) {
			t.Errorf("a host process: %v, want %v", err, syscall.EHOSTUNREACH)
		}
	}
	if h.valid(at.Addr()) {
		t.Errorf("the entry is %v, in state %#x", h.entry(at.Addr()), h.entry(at.Addr()).State)
	}
	// Clients that are forwarded need no entry.
	wantAnswer(t, call(t, client(t, star.Client, at)), "open")
}

// A circuit that is closed by hand, and the end of the agent, leave no entry behind.
func TestNeighbourHoldEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, agent *agenttest.Agent){
		"closed": func(t *testing.T, agent *agenttest.Agent) {
			closing := exec.CommandContext(soon(t), binary, "close", "test", "--reason", "try", "--control-socket", agent.ControlSocket())
			if said, err := closing.CombinedOutput(); err != nil {
				t.Fatalf("close the circuit: %v, %s", err, said)
			}
		},
		"stopped": func(t *testing.T, agent *agenttest.Agent) {
			if err := agent.Stop(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			star := newStar(t, netlab.Options{Backends: 1})
			h := newHost(t, star)
			at := netip.AddrPortFrom(star.Backends[0].IPv6, port)
			agent := startAgent(t, star.Node, policyOf([]netip.AddrPort{at}, append(twoUnreachable, "open: {duration: 5m, max: 5m}")...), []string{"*"})
			began := time.Now()
			h.off()
			openDead(t, agent, star.Node, at, began)
			eventually(t, "the entry is held", func() bool { return h.valid(at.Addr()) })
			end(t, agent)
			eventually(t, "the entry is gone", func() bool { return !h.valid(at.Addr()) })
		})
	}
}

// An agent that is killed while it holds an entry does not keep the host hidden.
func TestKilledWhileItHoldsANeighbour(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("v6=%v", v6), func(t *testing.T) {
			t.Parallel()
			star := newStar(t, netlab.Options{Backends: 2})
			h := newHost(t, star)
			for _, family := range []string{"ipv4", "ipv6"} {
				set(t, h.node, "net."+family+".neigh."+h.iface+".retrans_time_ms", "1000") // the default
			}
			p := backendsPlace(t, star, v6)
			agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, append(twoUnreachable, "open: {duration: 5m, max: 5m}")...), []string{"*"})
			wantStatus(t, call(t, client(t, p.node, p.backend)), 200)
			began := time.Now()
			h.off()
			openDead(t, agent, p.node, p.backend, began)
			eventually(t, "the entry is held", func() bool { return h.valid(p.backend.Addr()) })
			wantAnswer(t, call(t, client(t, p.node, p.backend)), "open")
			agent.Kill()
			h.on()
			killedAt := time.Now()
			eventually(t, "traffic flows", func() bool {
				c := client(t, p.node, p.backend)
				c.Timeout = 300 * time.Millisecond
				return call(t, c).Status == 200
			})
			if took := time.Since(killedAt); took > 10*time.Second {
				t.Errorf("traffic flowed after %s", took)
			}
		})
	}
}

// plain connects two nodes by a plain link.
func plain(t *testing.T, lab *netlab.Lab, near, far *netlab.Namespace) string {
	t.Helper()
	err := lab.Veth(netlab.End{In: near, Interface: "link0", Addresses: nearLink}, netlab.End{In: far, Interface: "link0", Addresses: farLink})
	if err != nil {
		t.Fatal(err)
	}
	return "link0"
}

// A router that is off takes all backends behind it along.
func TestDeadRouter(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("v6=%v", v6), func(t *testing.T) {
			t.Parallel()
			star := newFarStar(t, plain)
			p := backendsPlace(t, star.Star, v6)
			both := []netip.AddrPort{p.backend, p.neighbour}
			agent := startAgent(t, p.node, policyOf(both, append(twoUnreachable, "open: {duration: 5m, max: 5m}")...), []string{"*"})
			for _, at := range both {
				wantStatus(t, call(t, client(t, p.client, at)), 200)
			}
			d, err := star.Far.Links().LinkByName("link0")
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			router := farLink[0]
			if v6 {
				router = farLink[1]
			}
			gone := &netlink.Addr{IPNet: &net.IPNet{IP: router.Addr().AsSlice(), Mask: net.CIDRMask(router.Bits(), router.Addr().BitLen())}}
			if err := star.Far.Links().AddrDel(d, gone); err != nil {
				t.Fatal(err)
			}
			near, err := p.node.Links().LinkByName("link0")
			if err != nil {
				t.Fatal(err)
			}
			if err := p.node.Links().NeighDel(&netlink.Neigh{LinkIndex: near.Attrs().Index, IP: router.Addr().AsSlice()}); err != nil {
				t.Fatal(err)
			}
			// Calls to one of them are proof for both.
			openDead(t, agent, p.client, p.backend, began)
			if _, err := agent.Await(soon(t), p.neighbour.String(), "open", began); err != nil {
				t.Fatal(err)
			}
			for _, at := range both {
				wantAnswer(t, call(t, client(t, p.client, at)), "open")
			}
			if said := agent.Complaint("").Error(); !strings.Contains(said, "neighbour does not answer") {
				t.Errorf("the agent said %s", said)
			}
		})
	}
}

// A router that says that there is no way is believed at once, and once.
func TestRouterSaysUnreachable(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		for from, rejects := range map[string][]string{
			"client": {"host-unreachable", "port-unreachable"}, "host process": {"host-unreachable", "admin-prohibited"},
		} {
			for _, reject := range rejects {
				t.Run(fmt.Sprintf("%s %s v6=%v", from, reject, v6), func(t *testing.T) {
					t.Parallel()
					star := newFarStar(t, plain)
					p := backendsPlace(t, star.Star, v6)
					if from == "host process" {
						p.client = p.node
						for i, to := range []string{"10.24.0.0/24", "2001:db8:24::/64"} {
							for _, b := range star.Backends {
								gateway := []netip.Addr{b.IPv4, b.IPv6}[i].Prev()
								route(t, b.Namespace, netip.MustParsePrefix(to), gateway)
							}
						}
					}
					agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, append(twoUnreachable, "open: {duration: 5m, max: 5m}")...), []string{"link0"})
					wantStatus(t, call(t, client(t, p.client, p.backend)), 200)
					nft(t, star.Far, `table inet filter {
						chain forward { type filter hook forward priority 0; ct state new tcp dport 8080 reject with icmpx type `+reject+`; }
					}`)
					began := time.Now()
					for range 2 {
						c := client(t, p.client, p.backend)
						c.Timeout = 500 * time.Millisecond
						call(t, c)
					}
					if _, err := agent.Await(soon(t), p.backend.String(), "open", began); err != nil {
						t.Fatal(err)
					}
					wantAnswer(t, call(t, client(t, p.client, p.backend)), "open")
					if n, _ := metric(t, p.node, "cbagent_outcomes_total", `outcome="unreachable"`); n != 2 {
						t.Errorf("%v attempts are counted as unreachable, want 2", n)
					}
				})
			}
		}
	}
}
