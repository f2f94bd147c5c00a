package neighbour

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/rootonly"
	"github.com/cbagent/cbagent/internal/rtnetlink"
)

// patience bounds every wait. Only a failing test waits so long.
const patience = 20 * time.Second

var (
	nodeV4, nodeV6 = netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64")
	hostV4, hostV6 = netip.MustParsePrefix("192.0.2.7/24"), netip.MustParsePrefix("2001:db8::7/64")
	farV4, farV6   = addr("198.51.100.7"), addr("2001:db8:1::7") // behind the host
)

// link is a node and a host that are neighbours.
type link struct {
	t          *testing.T
	node, host *netlab.Namespace
	index      int // of the node's interface v0; the host's is v1
}

// newLink makes one. The node gives neighbours up after three tenths of a second.
func newLink(t *testing.T) *link {
	t.Helper()
	var lab netlab.Lab
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	l := &link{t: t}
	var err error
	l.node, err = lab.Namespace("node")
	l.check(err)
	l.host, err = lab.Namespace("host")
	l.check(err)
	l.check(lab.Veth(netlab.End{In: l.node, Interface: "v0"}, netlab.End{In: l.host, Interface: "v1"}))
	l.check(l.node.Address("v0", nodeV4))
	l.check(l.node.Address("v0", nodeV6))
	l.up()
	for _, family := range []string{"ipv4", "ipv6"} {
		l.check(l.node.Sysctl("net."+family+".neigh.v0.retrans_time_ms", "100"))
	}
	l.check(l.node.Route(netip.PrefixFrom(farV4, 32), hostV4.Addr()))
	l.check(l.node.Route(netip.PrefixFrom(farV6, 128), hostV6.Addr()))
	d, err := l.node.Links().LinkByName("v0")
	l.check(err)
	l.index = d.Attrs().Index
	return l
}

func (l *link) check(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// up gives the host its addresses, down takes them.
func (l *link) up() {
	l.t.Helper()
	l.check(l.host.Address("v1", hostV4))
	l.check(l.host.Address("v1", hostV6))
}

func (l *link) down() {
	l.t.Helper()
	d, err := l.host.Links().LinkByName("v1")
	l.check(err)
	for _, p := range []netip.Prefix{hostV4, hostV6} {
		l.check(l.host.Links().AddrDel(d, &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}))
	}
}

// setMAC gives the host another card.
func (l *link) setMAC(mac net.HardwareAddr) {
	l.t.Helper()
	d, err := l.host.Links().LinkByName("v1")
	l.check(err)
	l.check(l.host.Links().LinkSetHardwareAddr(d, mac))
}

// say sends a packet from one to the other.
func (l *link) say(from *netlab.Namespace, to netip.Addr) {
	l.t.Helper()
	c, err := from.DialContext(context.Background(), "udp", netip.AddrPortFrom(to, 9).String())
	l.check(err)
	defer func() { _ = c.Close() }()
	_, _ = c.Write([]byte("?"))
}

// watch starts a watcher for the host's addresses and those behind it.
func (l *link) watch() *Watcher {
	l.t.Helper()
	var w *Watcher
	err := l.node.Do(func() (err error) {
		w, err = Watch(context.Background(), slog.New(slog.DiscardHandler), netns.None())
		return err
	})
	l.check(err)
	l.t.Cleanup(w.Close)
	w.SetAddresses(map[netip.Addr]bool{hostV4.Addr(): true, hostV6.Addr(): true, farV4: true, farV6: true})
	return w
}

func (l *link) key(of netip.Addr) Key { return Key{Link: l.index, Addr: of} }

// entry returns the node's entry of an address; nil if there is none.
func (l *link) entry(of netip.Addr) *netlink.Neigh {
	l.t.Helper()
	all, err := l.node.Links().NeighList(l.index, unix.AF_UNSPEC)
	l.check(err)
	for i := range all {
		if a, ok := netip.AddrFromSlice(all[i].IP); ok && a.Unmap() == of {
			return &all[i]
		}
	}
	return nil
}

func (l *link) eventually(what string, ok func() bool) {
	l.t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			l.t.Fatalf("waited %s in vain: %s; the entries are %+v, %+v", patience, what, l.entry(hostV4.Addr()), l.entry(hostV6.Addr()))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// want reads the next event.
func (l *link) want(w *Watcher, want Event) {
	l.t.Helper()
	select {
	case got := <-w.Events():
		if diff := cmp.Diff(want, got, compare); diff != "" {
			l.t.Errorf("event (-want +got):\n%s", diff)
		}
	case <-time.After(patience):
		l.t.Fatalf("no event in %s, want %+v", patience, want)
	}
}

// each runs a test for both families.
func each(t *testing.T, test func(l *link, host, far netip.Addr)) {
	t.Run("IPv4", func(t *testing.T) { test(newLink(t), hostV4.Addr(), farV4) })
	t.Run("IPv6", func(t *testing.T) { test(newLink(t), hostV6.Addr(), farV6) })
}

func TestWatch(t *testing.T) {
	rootonly.Test(t)
	each(t, func(l *link, host, far netip.Addr) {
		w := l.watch()
		l.down()
		l.say(l.node, host)
		l.want(w, Event{Neighbour: l.key(host), Failed: true, First: true, Behind: []netip.Addr{host, far}})
		l.say(l.node, far)
		l.want(w, Event{Neighbour: l.key(host), Failed: true, Behind: []netip.Addr{host, far}})
		l.eventually("the address on the link is dead", func() bool { return cmp.Equal(w.Dead(), map[netip.Addr]Key{host: l.key(host)}, compare) })
		// A route that goes elsewhere.
		l.check(l.node.Links().RouteReplace(&netlink.Route{
			Type: unix.RTN_BLACKHOLE, Dst: &net.IPNet{IP: far.AsSlice(), Mask: net.CIDRMask(far.BitLen(), far.BitLen())},
		}))
		l.eventually("the address behind it is behind it no more", func() bool {
			l.say(l.node, host)
			select {
			case got := <-w.Events():
				return cmp.Equal(got, Event{Neighbour: l.key(host), Failed: true, Behind: []netip.Addr{host}}, compare)
			default:
				return false
			}
		})
		l.up()
		l.say(l.node, host)
		l.eventually("the neighbour is back", func() bool {
			l.say(l.node, host)
			select {
			case got := <-w.Events():
				return cmp.Equal(got, Event{Neighbour: l.key(host), First: true, Behind: []netip.Addr{host}}, compare)
			default:
				return false
			}
		})
		l.eventually("no neighbour is dead", func() bool { return len(w.Dead()) == 0 })
	})
}

// What an administrator removes has not failed.
func TestRemovedEntryHasNotFailed(t *testing.T) {
	rootonly.Test(t)
	each(t, func(l *link, host, far netip.Addr) {
		w := l.watch()
		l.eventually("the entry is there", func() bool {
			l.say(l.node, host)
			e := l.entry(host)
			return e != nil && e.State == unix.NUD_REACHABLE
		})
		l.check(l.node.Links().NeighDel(l.entry(host)))
		l.down()
		l.say(l.node, host)
		// The first event is of the resolution: an earlier one would have been the first of a failure.
		l.want(w, Event{Neighbour: l.key(host), Failed: true, First: true, Behind: []netip.Addr{host, far}})
		select {
		case ev := <-w.Events():
			t.Errorf("a second event: %+v", ev)
		default:
		}
	})
}

// When notifications are lost all entries are listed again.
func TestLostNotifications(t *testing.T) {
	rootonly.Test(t)
	each(t, func(l *link, host, far netip.Addr) {
		var w *Watcher
		err := l.node.Do(func() (err error) {
			w, err = open(slog.New(slog.DiscardHandler), netns.None())
			return err
		})
		l.check(err)
		var ctx context.Context
		ctx, w.cancel = context.WithCancel(context.Background())
		batches := make(chan rtnetlink.Batch)
		go w.run(ctx, batches)
		t.Cleanup(w.Close)
		w.SetAddresses(map[netip.Addr]bool{host: true})
		l.down()
		l.say(l.node, host)
		l.eventually("the resolution fails", func() bool { e := l.entry(host); return e != nil && e.State == unix.NUD_FAILED })
		batches <- rtnetlink.Batch{Err: unix.ENOBUFS}
		l.want(w, Event{Neighbour: l.key(host), Failed: true, First: true, Behind: []netip.Addr{host}})
	})
}
