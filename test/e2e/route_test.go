package e2e

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/testserver"
	"github.com/cbagent/cbagent/internal/loader"
)

// Addresses of a second way to the first backend, and the one that it has on either way.
var (
	secondHere, secondThere = netip.MustParseAddr("10.26.1.1"), netip.MustParseAddr("10.26.1.2")
	eitherWay               = netip.MustParseAddr("10.30.0.1")
)

// twoWays gives the first backend of a star a second link to the node, bx1, and an address that both lead to.
func twoWays(t *testing.T) *netlab.Star {
	t.Helper()
	star := newStar(t, netlab.Options{Backends: 2})
	b1 := star.Backends[0]
	err := star.Veth(
		netlab.End{In: star.Node, Interface: "bx1", Addresses: []netip.Prefix{netip.PrefixFrom(secondHere, 24)}},
		netlab.End{In: b1.Namespace, Interface: "eth1", Addresses: []netip.Prefix{netip.PrefixFrom(secondThere, 24)}})
	if err == nil {
		err = b1.Address("lo", netip.PrefixFrom(eitherWay, 32))
	}
	if err != nil {
		t.Fatal(err)
	}
	// Answers may come by the other way.
	for _, iface := range []string{"all", "be1", "bx1"} {
		set(t, star.Node, "net.ipv4.conf."+iface+".rp_filter", "0")
	}
	towards(t, star, false)
	back(t, star, false)
	return star
}

// towards chooses the way of packets to the backend that has two.
func towards(t *testing.T, star *netlab.Star, second bool) {
	t.Helper()
	via := star.Backends[0].IPv4
	if second {
		via = secondThere
	}
	route(t, star.Node, netip.PrefixFrom(eitherWay, 32), via)
}

// back chooses the way of its answers.
func back(t *testing.T, star *netlab.Star, second bool) {
	t.Helper()
	via := star.Backends[0].IPv4.Prev()
	if second {
		via = secondHere
	}
	route(t, star.Backends[0].Namespace, netip.MustParsePrefix("10.20.0.0/24"), via)
}

// changingPlace is to a backend to which, and from which, the way changes all the time.
func changingPlace(t *testing.T) place {
	star := twoWays(t)
	p := place{
		client: star.Client, node: star.Node, home: star.Backends[0].Namespace, interfaces: []string{"be*", "bx*"},
		backend: netip.AddrPortFrom(eitherWay, port), neighbour: netip.AddrPortFrom(star.Backends[1].IPv4, port),
	}
	p.dial = p.backend
	p.server, p.other = serve(t, p.home, p.backend), serve(t, star.Backends[1].Namespace, p.neighbour)

	stop := make(chan struct{})
	var changing sync.WaitGroup
	changing.Go(func() {
		ticker := time.NewTicker(7 * time.Millisecond)
		defer ticker.Stop()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-ticker.C:
				towards(t, star, i&1 == 0)
				back(t, star, i&2 == 0)
			}
		}
	})
	t.Cleanup(func() {
		close(stop)
		changing.Wait()
	})
	return p
}

// aside gives the first backend of a star a link of its own to the client, by which its answers go.
func aside(t *testing.T, star *netlab.Star) {
	t.Helper()
	here, there := netip.MustParsePrefix("10.25.0.1/24"), netip.MustParsePrefix("10.25.0.2/24")
	err := star.Veth(
		netlab.End{In: star.Client, Interface: "dir0", Addresses: []netip.Prefix{here}},
		netlab.End{In: star.Backends[0].Namespace, Interface: "dir0", Addresses: []netip.Prefix{there}})
	if err != nil {
		t.Fatal(err)
	}
	route(t, star.Backends[0].Namespace, netip.MustParsePrefix("10.20.0.0/24"), here.Addr())
}

// TestAnswersByAnotherWay: what becomes of requests whose answers do not come back through the node is unknown. It is
// counted, and says nothing about the backend.
func TestAnswersByAnotherWay(t *testing.T) {
	t.Parallel()
	star := newStar(t, netlab.Options{Backends: 2})
	aside(t, star)
	var at []netip.AddrPort
	var servers []*testserver.Server
	for _, b := range star.Backends {
		at = append(at, netip.AddrPortFrom(b.IPv4, port))
		servers = append(servers, serve(t, b.Namespace, at[len(at)-1]))
	}
	d := newDatapath(t, star.Node, loader.Options{}, []string{"be1", "be2"}, at)
	const requests = 20
	for i, s := range servers {
		d.SetPolicy(i, impatient)
		s.Set(testserver.Behaviour{Status: 500})
		for range requests {
			c := client(t, star.Client, at[i])
			wantStatus(t, call(t, c), 500)
			c.Close()
		}
	}
	eventually(t, "all is counted", func() bool { return d.Totals(0).InFlight == 0 && d.Totals(1).InFlight == 0 })
	for i, want := range []map[string]uint64{{breaker.ResultUnknown.String(): requests}, {"500": requests}} {
		if got := d.observed(t, i); len(got) != 1 || got[only(want)] != requests {
			t.Errorf("backend %d: the programs saw %v, want %v", i, got, want)
		}
	}
	if got := d.Progress(0); got.Judged != 0 || got.Failures != 0 {
		t.Errorf("%d unknown outcomes were judged, %d of them as failures; want none", got.Judged, got.Failures)
	}
	if got := d.Progress(1); got.Judged != requests || got.Failures != requests {
		t.Errorf("the neighbour: %d judged, %d failed; want %d of each", got.Judged, got.Failures, requests)
	}
}

// only returns the key of a map that has one.
func only(m map[string]uint64) (key string) {
	for key = range m {
	}
	return key
}

// TestCircuitWithoutAnswersToBeSeen stays closed, and a client is rejected all the same when somebody opens it.
func TestCircuitWithoutAnswersToBeSeen(t *testing.T) {
	t.Parallel()
	star := newStar(t, netlab.Options{Backends: 2})
	aside(t, star)
	unseen, seen := netip.AddrPortFrom(star.Backends[0].IPv4, port), netip.AddrPortFrom(star.Backends[1].IPv4, port)
	server, other := serve(t, star.Backends[0].Namespace, unseen), serve(t, star.Backends[1].Namespace, seen)
	t.Run("judged", func(t *testing.T) {
		agent := startAgent(t, star.Node, policyOf([]netip.AddrPort{unseen, seen}, append(threeFailures, "outcome: {timeout: 100ms}")...), []string{"be*"})
		server.Set(testserver.Behaviour{Status: 500})
		kept := client(t, star.Client, unseen)
		for range 5 {
			wantStatus(t, call(t, kept), 500)
			c := client(t, star.Client, unseen)
			wantStatus(t, call(t, c), 500)
			c.Close()
		}
		eventually(t, "unknown outcomes are counted", func() bool {
			unknown, _ := metric(t, star.Node, "cbagent_outcomes_total", `outcome="unknown"`)
			return unknown >= 6
		})
		c := client(t, star.Client, seen)
		openCircuit(t, agent, other, c)
		wantAnswer(t, call(t, c), "open")
		wantStatus(t, call(t, kept), 500)
		if got := agent.Transitions(); len(got) != 1 {
			t.Errorf("transitions %+v, want the neighbour's alone", got)
		}
	})
	t.Run("forced open", func(t *testing.T) {
		kept := client(t, star.Client, unseen)
		wantStatus(t, call(t, kept), 500)
		before := server.Counts()
		startAgent(t, star.Node, policyOf([]netip.AddrPort{unseen}, "mode: forced-open"), []string{"be*"})
		// Where the responses end is not seen: an answer could end up inside one.
		if r := call(t, kept); r.Class != loadgen.Reset {
			t.Errorf("a request on an open connection got %s with status %d, expected a reset", r.Class, r.Status)
		}
		wantAnswer(t, call(t, client(t, star.Client, unseen)), "forced-open")
		if got := server.Counts().Sub(before); got.Requests != 0 || got.Connections != 0 {
			t.Errorf("the backend saw %+v", got)
		}
		other.Set(testserver.Behaviour{})
		wantStatus(t, call(t, client(t, star.Client, seen)), 200)
	})
}

// TestOpenConnectionsFollowTheirRoute: a connection whose route moves to another interface after its circuit has opened
// is answered there.
func TestOpenConnectionsFollowTheirRoute(t *testing.T) {
	t.Parallel()
	star := twoWays(t)
	at := netip.AddrPortFrom(eitherWay, port)
	server := serve(t, star.Backends[0].Namespace, at)
	agent := startAgent(t, star.Node, policyOf([]netip.AddrPort{at}, threeFailures...), []string{"be*", "bx*"})
	kept := make([]*loadgen.Client, 4)
	for i := range kept {
		towards(t, star, i&1 == 0)
		back(t, star, i&2 == 0)
		kept[i] = client(t, star.Client, at)
		wantStatus(t, call(t, kept[i]), 200)
	}
	failing := client(t, star.Client, at)
	openCircuit(t, agent, server, failing)
	failing.Close()
	before := server.Counts()
	for i := range kept {
		towards(t, star, i&1 != 0)
		r := call(t, kept[i])
		wantAnswer(t, r, "open")
		if !r.Reused {
			t.Errorf("connection %d was not used", i)
		}
	}
	if got := server.Counts().Sub(before); got.Requests != 0 {
		t.Errorf("the backend saw %+v", got)
	}
	eventually(t, "nothing is open at the backend", func() bool { return established(t, star.Backends[0].Namespace, port) == 0 })
}

// TestAddressThatTheNodeGetsLater: a backend may be an address that comes to the node while the agent runs.
func TestAddressThatTheNodeGetsLater(t *testing.T) {
	t.Parallel()
	star := newStar(t, netlab.Options{})
	late, other := netip.MustParseAddr("10.20.0.77"), netip.AddrPortFrom(netlab.NodeIPv4, port+1)
	at := netip.AddrPortFrom(late, port)
	startAgent(t, star.Node, policyOf([]netip.AddrPort{at}, "mode: forced-open"), []string{"cl0", "lo"})
	if err := star.Node.Address("cl0", netip.PrefixFrom(late, 32)); err != nil {
		t.Fatal(err)
	}
	serve(t, star.Node, at)
	serve(t, star.Node, other)
	for _, from := range []*netlab.Namespace{star.Client, star.Node} {
		eventually(t, "clients are rejected", func() bool {
			c := client(t, from, at)
			defer c.Close()
			reason, kernel := call(t, c).FromKernel()
			return kernel && reason == "forced-open"
		})
		wantStatus(t, call(t, client(t, from, other)), 200)
	}
}

// TestAddressOfTheNodeInANetwork: a backend that is learned may be an address of the node.
func TestAddressOfTheNodeInANetwork(t *testing.T) {
	t.Parallel()
	star := newStar(t, netlab.Options{})
	at, other := netip.AddrPortFrom(netlab.NodeIPv4, port), netip.AddrPortFrom(netlab.NodeIPv4, port+1)
	serve(t, star.Node, at)
	serve(t, star.Node, other)
	startAgent(t, star.Node, "version: 1\npolicies:\n- name: test\n  mode: forced-open\n  match: {cidrs: [\"10.20.0.0/24:8080\"]}\n", []string{"cl0"})
	eventually(t, "clients are rejected", func() bool {
		c := client(t, star.Client, at)
		defer c.Close()
		_, kernel := call(t, c).FromKernel()
		return kernel
	})
	wantStatus(t, call(t, client(t, star.Client, other)), 200)
}

// bigPlace has links that take packets of more than 64 KiB before they are segmented (BIG TCP).
func bigPlace(t *testing.T) place {
	star := newStar(t, netlab.Options{Backends: 2})
	const size = 180_000
	for _, n := range []*netlab.Namespace{star.Client, star.Node, star.Backends[0].Namespace, star.Backends[1].Namespace} {
		for _, iface := range ethernets(t, n) {
			l, err := n.Links().LinkByName(iface)
			if err != nil {
				t.Fatal(err)
			}
			for _, set := range []func(netlink.Link, int) error{n.Links().LinkSetGSOIPv4MaxSize, n.Links().LinkSetGROIPv4MaxSize} {
				if err := set(l, size); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return backendsPlace(t, star, false)
}
