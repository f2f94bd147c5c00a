package neighbour

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/lab/rootonly"
)

// slow makes the node give neighbours up as by default.
func (l *link) slow() {
	l.t.Helper()
	for _, family := range []string{"ipv4", "ipv6"} {
		l.check(l.node.Sysctl("net."+family+".neigh.v0.retrans_time_ms", "1000"))
	}
}

// mac returns the link-layer address of the host.
func (l *link) mac() string {
	l.t.Helper()
	d, err := l.host.Links().LinkByName("v1")
	l.check(err)
	return d.Attrs().HardwareAddr.String()
}

// dies has the node know the host, and then find it dead.
func (l *link) dies(w *Watcher, host netip.Addr) {
	l.t.Helper()
	l.eventually("the host is a neighbour", func() bool {
		l.say(l.node, host)
		e := l.entry(host)
		return e != nil && e.State == unix.NUD_REACHABLE
	})
	l.down()
	l.check(l.node.Links().NeighDel(l.entry(host)))
	l.say(l.node, host)
	l.eventually("the host is dead", func() bool { return w.Dead()[host] == l.key(host) })
	<-w.Events()
	l.slow()
}

// is reports whether the entry is in one of the states and has the link-layer address.
func (l *link) is(of netip.Addr, mac string, states int) bool {
	l.t.Helper()
	e := l.entry(of)
	return e != nil && e.State&states != 0 && e.HardwareAddr.String() == mac
}

// A held entry is valid for as long as it is held, longer than the kernel keeps it by itself.
func TestHold(t *testing.T) {
	rootonly.Test(t)
	t.Parallel()
	each(t, func(l *link, host, _ netip.Addr) {
		w := l.watch()
		mac := l.mac()
		l.dies(w, host)
		w.SetHolds(map[Key]time.Time{l.key(host): {}})
		const valid = unix.NUD_PROBE | unix.NUD_STALE | unix.NUD_DELAY
		l.eventually("the entry is held", func() bool { return l.is(host, mac, valid) })
		for until := time.Now().Add(5 * time.Second); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
			l.say(l.node, host)
			if e := l.entry(host); !l.is(host, mac, valid) {
				t.Fatalf("the entry is %v, in state %#x", e, e.State)
			}
		}
		w.SetHolds(map[Key]time.Time{})
		l.eventually("the entry is removed", func() bool { e := l.entry(host); return e == nil || e.State == unix.NUD_FAILED })
	})
}

// The end of the watcher takes what it holds along.
func TestCloseRemovesHolds(t *testing.T) {
	rootonly.Test(t)
	t.Parallel()
	each(t, func(l *link, host, _ netip.Addr) {
		w := l.watch()
		mac := l.mac()
		l.dies(w, host)
		w.SetHolds(map[Key]time.Time{l.key(host): {}})
		l.eventually("the entry is held", func() bool { return l.is(host, mac, unix.NUD_PROBE) })
		w.Close()
		if e := l.entry(host); e != nil && e.State != unix.NUD_FAILED {
			t.Errorf("the entry is still there: %v, in state %#x", e, e.State)
		}
	})
}

// Without a holder the kernel gives the entry up, and finds a host that is back with another card.
func TestHoldWithoutItsHolder(t *testing.T) {
	rootonly.Test(t)
	t.Parallel()
	each(t, func(l *link, host, _ netip.Addr) {
		l.down()
		l.slow()
		h, err := netlink.NewHandleAt(nsOf(t, l), unix.NETLINK_ROUTE)
		l.check(err)
		defer h.Close()
		l.check(hold(h, l.key(host), ""))
		if !l.is(host, placeholder.String(), unix.NUD_PROBE) {
			t.Fatalf("the entry is %v, want one with %s", l.entry(host), placeholder)
		}
		l.up()
		began := time.Now()
		l.eventually("the host is found", func() bool {
			l.say(l.node, host)
			return l.is(host, l.mac(), unix.NUD_REACHABLE)
		})
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("the host was found after %s", took)
		}
	})
}

// A host that is back, with whatever card, and says so, is not hidden by the hold, though it is asked for still.
func TestHoldGivesWay(t *testing.T) {
	rootonly.Test(t)
	t.Parallel()
	each(t, func(l *link, host, far netip.Addr) {
		w := l.watch()
		l.dies(w, host)
		w.SetHolds(map[Key]time.Time{l.key(host): {}})
		l.eventually("the entry is held", func() bool { return l.is(host, l.mac(), unix.NUD_PROBE) })
		l.setMAC(net.HardwareAddr{2, 0, 0, 0, 0, 99})
		l.up()
		node := nodeV4.Addr()
		if host.Is6() {
			node = nodeV6.Addr()
		}
		l.say(l.host, node)
		l.want(w, Event{Neighbour: l.key(host), First: true, Behind: []netip.Addr{host, far}})
		for until := time.Now().Add(3 * time.Second); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
			if e := l.entry(host); e == nil || e.HardwareAddr.String() != "02:00:00:00:00:63" {
				t.Fatalf("the entry is %v", e)
			}
		}
	})
}

// When its time has come the entry goes, and the neighbour is asked for without a client that waits.
func TestHoldEnds(t *testing.T) {
	rootonly.Test(t)
	t.Parallel()
	each(t, func(l *link, host, _ netip.Addr) {
		w := l.watch()
		old := l.mac()
		l.dies(w, host)
		w.SetHolds(map[Key]time.Time{l.key(host): {}})
		l.eventually("the entry is held", func() bool { return l.is(host, old, unix.NUD_PROBE) })
		w.SetHolds(map[Key]time.Time{l.key(host): time.Now().Add(2 * time.Second)})
		l.setMAC(net.HardwareAddr{2, 0, 0, 0, 0, 99})
		l.up()
		l.eventually("the host is found", func() bool { return l.is(host, "02:00:00:00:00:63", unix.NUD_REACHABLE) })
		l.eventually("the host lives", func() bool { return len(w.Dead()) == 0 })
	})
}

// A neighbour that is there passes verification, and one that is not is dead soon, though no packet is sent to it.
func TestVerify(t *testing.T) {
	rootonly.Test(t)
	t.Parallel()
	each(t, func(l *link, host, far netip.Addr) {
		w := l.watch()
		l.eventually("the host is a neighbour", func() bool {
			l.say(l.node, host)
			e := l.entry(host)
			return e != nil && e.State == unix.NUD_REACHABLE
		})
		before := l.entry(host).Confirmed
		l.eventually("the confirmation is old", func() bool { return l.entry(host).Confirmed > before })
		w.Verify([]netip.Addr{host, far})
		l.eventually("the host has answered", func() bool { e := l.entry(host); return e.State == unix.NUD_REACHABLE && e.Confirmed <= before })
		l.down()
		w.Verify([]netip.Addr{host, far})
		l.eventually("the host is dead", func() bool { return w.Dead()[host] == l.key(host) })
		l.want(w, Event{Neighbour: l.key(host), Failed: true, First: true, Behind: []netip.Addr{host, far}})
	})
}

// What an administrator has fixed is left alone.
func TestPermanentEntryIsLeftAlone(t *testing.T) {
	rootonly.Test(t)
	t.Parallel()
	each(t, func(l *link, host, _ netip.Addr) {
		w := l.watch()
		l.dies(w, host)
		w.SetHolds(map[Key]time.Time{l.key(host): {}})
		l.eventually("the entry is held", func() bool { return l.is(host, l.mac(), unix.NUD_PROBE) })
		fixed := l.key(host).neigh()
		fixed.State, fixed.HardwareAddr = unix.NUD_PERMANENT, net.HardwareAddr{2, 0, 0, 0, 0, 77}
		l.check(l.node.Links().NeighSet(fixed))
		l.eventually("the watcher knows", func() bool { return len(w.Dead()) == 0 })
		w.SetHolds(map[Key]time.Time{l.key(host): {}})
		w.Close()
		if diff := cmp.Diff(true, l.is(host, fixed.HardwareAddr.String(), unix.NUD_PERMANENT)); diff != "" {
			t.Errorf("the entry is %v", l.entry(host))
		}
	})
}

// nsOf returns a handle of the node's namespace.
func nsOf(t *testing.T, l *link) netns.NsHandle {
	t.Helper()
	var ns netns.NsHandle
	l.check(l.node.Do(func() (err error) {
		ns, err = netns.Get()
		return err
	}))
	t.Cleanup(func() { _ = ns.Close() })
	return ns
}
