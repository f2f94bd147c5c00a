package ifaces

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/rootonly"
)

// node is a namespace with a watcher in it, and another namespace for the far ends of its veths.
type node struct {
	t         *testing.T
	here, far *netlab.Namespace
	watcher   *Watcher
	picks     map[string]Pick // by name, from the events
	seen      []Event
	farHandle netns.NsHandle
}

func newNode(t *testing.T) *node {
	t.Helper()
	lab := &netlab.Lab{}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	n := &node{t: t, picks: make(map[string]Pick)}
	var err error
	if n.here, err = lab.Namespace("node"); err != nil {
		t.Fatal(err)
	}
	if n.far, err = lab.Namespace("far"); err != nil {
		t.Fatal(err)
	}
	n.must(n.far.Do(func() error { n.farHandle, err = netns.Get(); return err }))
	t.Cleanup(func() { n.farHandle.Close() })
	return n
}

func (n *node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) watch(spec Spec) {
	n.t.Helper()
	n.must(n.here.Do(func() (err error) {
		n.watcher, err = Watch(n.t.Context(), slog.New(slog.NewTextHandler(n.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})), spec, netns.None())
		return err
	}))
	n.t.Cleanup(func() { n.watcher.Close() })
	n.until("everything there at the start", func() bool { return n.last().Op == Synced })
}

func (n *node) last() Event {
	if len(n.seen) == 0 {
		return Event{Op: ops}
	}
	return n.seen[len(n.seen)-1]
}

// until reads events until good holds. It checks that each makes sense after those before.
func (n *node) until(what string, good func() bool) {
	n.t.Helper()
	deadline := time.After(20 * time.Second)
	for !good() {
		select {
		case e, ok := <-n.watcher.Events():
			if !ok {
				n.t.Fatalf("the events ended before %s", what)
			}
			n.take(e)
		case <-deadline:
			n.t.Fatalf("not within 20 s: %s\nknown: %v\nresyncs %d, error %q", what, n.names(), n.watcher.Status().Resyncs, n.watcher.Status().LastError)
		}
	}
}

func (n *node) take(e Event) {
	n.t.Helper()
	n.seen = append(n.seen, e)
	name := e.Pick.Link.Name
	_, known := n.picks[name]
	switch e.Op {
	case Synced:
	case Added:
		if known {
			n.t.Fatalf("%s was added twice", name)
		}
		n.picks[name] = e.Pick
	case Removed:
		if !known {
			n.t.Fatalf("%s was removed but never added", name)
		}
		delete(n.picks, name)
	case Renamed, Changed:
		if _, ok := n.picks[e.Old.Link.Name]; !ok || e.Old.Link.Index != e.Pick.Link.Index {
			n.t.Fatalf("%v of something not added: %+v", e.Op, e)
		}
		delete(n.picks, e.Old.Link.Name)
		n.picks[name] = e.Pick
	}
}

func (n *node) names() []string {
	var all []string
	for name := range n.picks {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// attached returns the names of those to attach to, sorted.
func (n *node) attached() string {
	var all []string
	for name, p := range n.picks {
		if p.Attach {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func (n *node) add(link netlink.Link) {
	n.t.Helper()
	if err := n.here.Links().LinkAdd(link); err != nil {
		n.t.Fatalf("add %s %s: %v", link.Type(), link.Attrs().Name, err)
	}
}

func (n *node) link(name string) netlink.Link {
	n.t.Helper()
	l, err := n.here.Links().LinkByName(name)
	n.must(err)
	return l
}

// pod adds a veth whose other end is in the far namespace.
func (n *node) pod(name string) {
	n.t.Helper()
	n.add(&netlink.Veth{LinkAttrs: attrs(name), PeerName: "p" + name, PeerNamespace: netlink.NsFd(n.farHandle)})
}

func attrs(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

func (n *node) statusPick(name string) (Pick, bool) {
	for _, p := range n.watcher.Status().Picks {
		if p.Link.Name == name {
			return p, true
		}
	}
	return Pick{}, false
}

// Real links are recognised for what they are.
func TestWatcherKnowsRealLinks(t *testing.T) {
	rootonly.Test(t)
	n := newNode(t)
	n.add(&netlink.Bridge{LinkAttrs: attrs("br0")})
	n.add(&netlink.Ifb{LinkAttrs: attrs("ifb7")})
	n.must(n.here.Links().LinkSetUp(n.link("ifb7")))
	n.pod("pod0")
	n.add(&netlink.Veth{LinkAttrs: attrs("both0"), PeerName: "both1"})
	n.add(&netlink.Veth{LinkAttrs: attrs("port0"), PeerName: "port1"})
	n.must(n.here.Links().LinkSetMaster(n.link("port0"), n.link("br0")))
	n.add(&netlink.Vxlan{LinkAttrs: attrs("vx0"), VxlanId: 7, Port: 4789, SrcAddr: net.IPv4(127, 0, 0, 1)})
	n.must(n.here.Links().LinkSetUp(n.link("vx0")))
	n.must(n.here.Do(func() error { // the device nodes of tun belong to the thread's namespace
		return netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: attrs("tun0"), Mode: netlink.TUNTAP_MODE_TUN})
	}))
	n.must(n.here.Links().LinkSetUp(n.link("tun0")))
	n.must(n.here.Do(func() error {
		return netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: attrs("tap0"), Mode: netlink.TUNTAP_MODE_TAP})
	}))
	n.watch(Spec{Attach: []string{Auto}})
	for _, row := range []struct {
		name, kind             string
		attach, uplink, hasMAC bool
		reason                 string
	}{
		{"lo", "device", true, false, true, "loopback"},
		{"br0", "bridge", false, false, true, "its ports"},
		{"ifb7", "ifb", false, false, true, "ifb"},
		{"pod0", "veth", true, false, true, "host side"},
		{"both0", "veth", false, false, true, "both ends"},
		{"both1", "veth", false, false, true, "both ends"},
		{"port0", "veth", true, false, true, "port of bridge br0"},
		{"vx0", "vxlan", true, true, true, "tunnel"},
		{"tun0", "tun", true, true, false, "tunnel"},
		{"tap0", "tun", true, false, true, "TAP"},
	} {
		p, ok := n.statusPick(row.name)
		if !ok {
			t.Errorf("%s is not in the status", row.name)
			continue
		}
		if p.Link.Kind != row.kind || p.Attach != row.attach || p.Uplink != row.uplink || p.Link.HasMAC() != row.hasMAC || !strings.Contains(p.Reason, row.reason) {
			t.Errorf("%s: kind %s, attach %v, uplink %v, has MAC %v, %q; want %+v", row.name, p.Link.Kind, p.Attach, p.Uplink, p.Link.HasMAC(), p.Reason, row)
		}
		if _, reported := n.picks[row.name]; reported != (row.attach || row.uplink) {
			t.Errorf("%s: reported %v", row.name, reported)
		}
	}
	if lo, _ := n.statusPick("lo"); !lo.Link.Loopback() || !lo.Link.Up {
		t.Errorf("lo is %+v", lo.Link)
	}
}

func TestWatcherFollowsHundredsOfPods(t *testing.T) {
	rootonly.Test(t)
	const pods = 200
	n := newNode(t)
	n.watch(Spec{Attach: []string{"veth*"}})
	var want []string
	for i := range pods {
		want = append(want, fmt.Sprintf("veth%03d", i))
	}
	go func() {
		for _, name := range want {
			n.here.Links().LinkAdd(&netlink.Veth{LinkAttrs: attrs(name), PeerName: "p" + name, PeerNamespace: netlink.NsFd(n.farHandle)})
		}
	}()
	n.until("all are there", func() bool { return n.attached() == strings.Join(want, " ") })
	if p := n.picks["veth007"]; p.Reason != "matches veth*" {
		t.Errorf("reason %q", p.Reason)
	}
	go func() {
		for _, name := range want[:pods-1] {
			if l, err := n.here.Links().LinkByName(name); err == nil {
				n.here.Links().LinkDel(l)
			}
		}
	}()
	n.until("all but one are gone", func() bool { return n.attached() == want[pods-1] })
}

// Each comes and goes many times, while nothing reads events: afterwards the reported links are those that exist.
func TestWatcherReaderMayBeSlow(t *testing.T) {
	rootonly.Test(t)
	n := newNode(t)
	n.watch(Spec{Attach: []string{"veth*"}})
	for round := range 20 {
		for i := range 5 {
			n.pod(fmt.Sprintf("veth%d", i))
		}
		if round == 19 {
			break
		}
		for i := range 5 {
			n.must(n.here.Links().LinkDel(n.link(fmt.Sprintf("veth%d", i))))
		}
	}
	last := n.link("veth4").Attrs().Index
	n.until("the last ones", func() bool {
		return n.picks["veth4"].Link.Index == last && n.attached() == "veth0 veth1 veth2 veth3 veth4"
	})
	for i := range 5 {
		name := fmt.Sprintf("veth%d", i)
		if got, want := n.picks[name].Link.Index, n.link(name).Attrs().Index; got != want {
			t.Errorf("%s has index %d, want %d", name, got, want)
		}
	}
}

func TestWatcherFollowsRenames(t *testing.T) {
	rootonly.Test(t)
	n := newNode(t)
	n.pod("veth0")
	n.pod("other0")
	n.watch(Spec{Attach: []string{"veth*"}})
	rename := func(from, to string) { n.t.Helper(); n.must(n.here.Links().LinkSetName(n.link(from), to)) }

	rename("veth0", "veth9")
	n.until("a rename within the glob", func() bool { return n.attached() == "veth9" })
	if e := n.last(); e.Op != Renamed || e.Old.Link.Name != "veth0" {
		t.Fatalf("the event is %+v", e)
	}
	rename("other0", "veth1")
	n.until("a rename into the glob", func() bool { return n.attached() == "veth1 veth9" })
	if e := n.last(); e.Op != Added {
		t.Fatalf("the event is %+v", e)
	}
	rename("veth9", "other1")
	n.until("a rename out of the glob", func() bool { return n.attached() == "veth1" })
	if e := n.last(); e.Op != Removed || e.Pick.Link.Name != "veth9" {
		t.Fatalf("the event is %+v", e)
	}
	rename("veth1", "swap")
	rename("other1", "veth1")
	want := n.link("veth1").Attrs().Index
	n.until("another link with the name", func() bool { return n.picks["veth1"].Link.Index == want })
}

// With a receive buffer of the smallest size, links that go all at once are more than it holds. What was lost is found
// again by reading all.
func TestWatcherSurvivesLostNotifications(t *testing.T) {
	rootonly.Test(t)
	n := newNode(t)
	n.pod("veth-stays")
	n.watch(Spec{Attach: []string{"veth*"}})
	n.must(n.watcher.source.SetReceiveBuffer(1))
	const group = 7
	for deadline := time.Now().Add(20 * time.Second); n.watcher.Status().Resyncs == 0; {
		if time.Now().After(deadline) {
			t.Fatal("no notification was lost within 20 s: the test does not reach what it is for")
		}
		for i := range 50 {
			veth := &netlink.Veth{LinkAttrs: attrs(fmt.Sprintf("veth%02d", i)), PeerName: "peer", PeerNamespace: netlink.NsFd(n.farHandle)}
			veth.Group, veth.PeerName = group, fmt.Sprintf("peer%02d", i)
			n.add(veth)
		}
		n.until("the first are there", func() bool { return len(n.picks) > 10 })
		n.deleteGroup(group)
		n.until("those that go have gone", func() bool { return n.attached() == "veth-stays" })
	}
	n.pod("veth-new")
	n.until("the truth", func() bool { return n.attached() == "veth-new veth-stays" })
	n.until("word of the resync", func() bool {
		return slices.ContainsFunc(n.seen[2:], func(e Event) bool { return e.Op == Synced })
	})
	if st := n.watcher.Status(); st.LastError != "" {
		t.Errorf("error %q", st.LastError)
	}
}

// deleteGroup removes all links of a group in one system call.
func (n *node) deleteGroup(group uint32) {
	n.t.Helper()
	n.must(n.here.Do(func() error {
		req := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
		req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
		req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(group)))
		_, err := req.Execute(unix.NETLINK_ROUTE, 0)
		return err
	}))
}

func TestWatcherFollowsDefaultRoutes(t *testing.T) {
	rootonly.Test(t)
	n := newNode(t)
	n.pod("eth0")
	n.pod("eth1")
	for i, name := range []string{"eth0", "eth1"} {
		n.must(n.here.Links().LinkSetUp(n.link(name)))
		n.must(n.here.Address(name, netip.MustParsePrefix(fmt.Sprintf("10.9.%d.1/24", i))))
	}
	n.watch(Spec{Attach: []string{Auto}})
	uplinks := func() string {
		var all []string
		for name, p := range n.picks {
			if p.Uplink {
				all = append(all, name)
			}
		}
		slices.Sort(all)
		return strings.Join(all, " ")
	}
	if got := uplinks(); got != "" {
		t.Fatalf("uplinks without a default route: %s", got)
	}
	via := func(i, table int) *netlink.Route {
		return &netlink.Route{LinkIndex: n.link(fmt.Sprintf("eth%d", i)).Attrs().Index, Gw: net.IPv4(10, 9, byte(i), 2), Table: table,
			Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}}
	}
	n.must(n.here.Links().RouteAdd(via(0, 0)))
	n.until("a default route", func() bool { return uplinks() == "eth0" })
	if p := n.picks["eth0"]; !strings.Contains(p.Reason, "default route") {
		t.Errorf("reason %q", p.Reason)
	}
	n.must(n.here.Links().RouteAdd(via(1, 1000)))
	n.until("one of another table", func() bool { return uplinks() == "eth0 eth1" })
	n.must(n.here.Links().RouteDel(via(0, 0)))
	n.until("the first is gone", func() bool { return uplinks() == "eth1" })
	n.must(n.here.Links().LinkSetDown(n.link("eth1")))
	n.until("a link that goes down takes its routes along", func() bool { return uplinks() == "" })
	n.must(n.here.Links().LinkSetUp(n.link("eth1")))
	lo := &netlink.Route{LinkIndex: n.link("eth1").Attrs().Index, Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}}
	n.must(n.here.Links().RouteAdd(lo))
	n.until("a default route of IPv6", func() bool { return uplinks() == "eth1" })
}

// Some runtimes make both ends of a pod's veth on the node and move one away afterwards.
func TestWatcherSeesPeerLeave(t *testing.T) {
	rootonly.Test(t)
	n := newNode(t)
	n.watch(Spec{Attach: []string{Auto}})
	n.add(&netlink.Veth{LinkAttrs: attrs("host0"), PeerName: "peer0"})
	n.must(n.here.Links().LinkSetUp(n.link("host0")))
	n.must(n.here.Links().LinkSetNsFd(n.link("peer0"), int(n.farHandle)))
	n.must(n.far.Do(func() error {
		l, err := netlink.LinkByName("peer0")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(l)
	}))
	n.until("the host side", func() bool { return n.attached() == "host0 lo" })
}

// A port that leaves its bridge is still there, though a message says DELLINK.
func TestWatcherKeepsPortThatLeavesBridge(t *testing.T) {
	rootonly.Test(t)
	n := newNode(t)
	n.add(&netlink.Bridge{LinkAttrs: attrs("br0")})
	n.pod("veth0")
	n.must(n.here.Links().LinkSetMaster(n.link("veth0"), n.link("br0")))
	n.watch(Spec{Attach: []string{"veth*"}})
	n.must(n.here.Links().LinkSetNoMaster(n.link("veth0")))
	n.until("it has no master", func() bool { return n.picks["veth0"].Link.Master == 0 })
	for _, e := range n.seen {
		if e.Op == Removed {
			t.Fatalf("it was removed: %+v", e)
		}
	}
}

func TestWatcherEnds(t *testing.T) {
	rootonly.Test(t)
	n := newNode(t)
	n.watch(Spec{Attach: []string{"veth*"}})
	n.must(n.watcher.Close())
	if _, open := <-n.watcher.Events(); open {
		t.Fatal("an event after Close")
	}
	n.must(n.watcher.Close())
}
