package neighbour

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

var compare = cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmpopts.EquateEmpty()}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func addrs(all ...string) []netip.Addr {
	var list []netip.Addr
	for _, s := range all {
		list = append(list, addr(s))
	}
	return list
}

func key(s string) Key { return Key{Link: 3, Addr: addr(s)} }

// newTable has backends on the link, behind a router, behind two routers, and on the node itself.
func newTable() *Table {
	var t Table
	t.SetRoutes(map[netip.Addr]Route{
		addr("10.0.0.7"):      {key("10.0.0.7")},
		addr("2001:db8::7"):   {key("2001:db8::7")},
		addr("10.1.0.7"):      {key("10.0.0.1")},
		addr("10.1.0.8"):      {key("10.0.0.1")},
		addr("10.2.0.7"):      {key("10.0.0.1"), key("10.0.0.2")},
		addr("10.0.0.9"):      {},
		addr("2001:db8:1::7"): {key("fe80::1")},
	})
	return &t
}

// mac is a link-layer address that ends in the byte.
func mac(last byte) string { return string([]byte{2, 0, 0, 0, 0, last}) }

func TestTable(t *testing.T) {
	type step struct {
		update Update
		want   *Event
	}
	state := func(k string, nud int, hw string) Update { return Update{Key: key(k), State: nud, MAC: hw} }
	admin := func(u Update) Update { u.Admin = true; return u }
	event := func(k string, failed, first bool, behind ...string) *Event {
		return &Event{Neighbour: key(k), Failed: failed, First: first, Behind: addrs(behind...)}
	}
	for _, tc := range []struct {
		name  string
		steps []step
		dead  []string // on the link
	}{
		{"fails again and again, and is back", []step{
			{state("10.0.0.7", unix.NUD_REACHABLE, mac(7)), nil},
			{state("10.0.0.7", unix.NUD_PROBE, mac(7)), nil},
			{state("10.0.0.7", unix.NUD_FAILED, ""), event("10.0.0.7", true, true, "10.0.0.7")},
			{state("10.0.0.7", unix.NUD_INCOMPLETE, ""), nil},
			{state("10.0.0.7", unix.NUD_FAILED, ""), event("10.0.0.7", true, false, "10.0.0.7")},
			{state("10.0.0.7", unix.NUD_REACHABLE, mac(8)), event("10.0.0.7", false, true, "10.0.0.7")},
			{state("10.0.0.7", unix.NUD_STALE, mac(8)), nil},
		}, nil},
		{"IPv6", []step{
			{state("2001:db8::7", unix.NUD_FAILED, ""), event("2001:db8::7", true, true, "2001:db8::7")},
		}, []string{"2001:db8::7"}},
		{"was never known", []step{
			{state("10.0.0.7", unix.NUD_INCOMPLETE, ""), nil},
			{state("10.0.0.7", unix.NUD_FAILED, ""), event("10.0.0.7", true, true, "10.0.0.7")},
		}, []string{"10.0.0.7"}},
		{"asks for the node, and so lives", []step{
			{state("10.0.0.7", unix.NUD_FAILED, ""), event("10.0.0.7", true, true, "10.0.0.7")},
			{state("10.0.0.7", unix.NUD_STALE, mac(9)), event("10.0.0.7", false, true, "10.0.0.7")},
		}, nil},
		{"is probed, which is no sign of life", []step{
			{state("10.0.0.7", unix.NUD_FAILED, ""), event("10.0.0.7", true, true, "10.0.0.7")},
			{state("10.0.0.7", unix.NUD_DELAY, mac(9)), nil},
			{state("10.0.0.7", unix.NUD_PROBE, mac(9)), nil},
		}, []string{"10.0.0.7"}},
		{"no address of the table", []step{{state("10.0.0.200", unix.NUD_FAILED, ""), nil}}, nil},
		{"on another interface", []step{{Update{Key: Key{4, addr("10.0.0.7")}, State: unix.NUD_FAILED}, nil}}, nil},
		{"of the node itself", []step{{state("10.0.0.9", unix.NUD_FAILED, ""), nil}}, nil},
		{"a router, of some the only one", []step{
			{state("10.0.0.1", unix.NUD_FAILED, ""), event("10.0.0.1", true, true, "10.1.0.7", "10.1.0.8")},
			{state("10.0.0.2", unix.NUD_FAILED, ""), event("10.0.0.2", true, true, "10.2.0.7")},
			{state("10.0.0.1", unix.NUD_FAILED, ""), event("10.0.0.1", true, false, "10.1.0.7", "10.1.0.8", "10.2.0.7")},
			{state("10.0.0.2", unix.NUD_REACHABLE, mac(2)), event("10.0.0.2", false, true, "10.2.0.7")},
		}, nil},
		{"a router with a link-local address", []step{
			{state("fe80::1", unix.NUD_FAILED, ""), event("fe80::1", true, true, "2001:db8:1::7")},
		}, nil},
		{"an entry that a process removes", []step{
			{state("10.0.0.7", unix.NUD_REACHABLE, mac(7)), nil},
			{admin(state("10.0.0.7", unix.NUD_FAILED, "")), nil},
			{Update{Key: key("10.0.0.7"), Gone: true, Admin: true}, nil},
		}, nil},
		{"an entry that a process holds", []step{
			{state("10.0.0.7", unix.NUD_FAILED, ""), event("10.0.0.7", true, true, "10.0.0.7")},
			{admin(state("10.0.0.7", unix.NUD_STALE, mac(7))), nil},
			{admin(state("10.0.0.7", unix.NUD_PROBE, mac(7))), nil},
		}, []string{"10.0.0.7"}},
		{"an entry that a process makes permanent", []step{
			{state("10.0.0.7", unix.NUD_FAILED, ""), event("10.0.0.7", true, true, "10.0.0.7")},
			{admin(state("10.0.0.7", unix.NUD_PERMANENT, mac(7))), event("10.0.0.7", false, true, "10.0.0.7")},
		}, nil},
		{"a failed entry that is cleared away", []step{
			{state("10.0.0.7", unix.NUD_FAILED, ""), event("10.0.0.7", true, true, "10.0.0.7")},
			{Update{Key: key("10.0.0.7"), Gone: true}, nil},
			{state("10.0.0.7", unix.NUD_FAILED, ""), event("10.0.0.7", true, false, "10.0.0.7")},
		}, []string{"10.0.0.7"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			table := newTable()
			table.Load(nil)
			for i, s := range tc.steps {
				var got *Event
				if ev, ok := table.Apply(s.update); ok {
					got = &ev
				}
				if diff := cmp.Diff(s.want, got, compare); diff != "" {
					t.Errorf("step %d (-want +got):\n%s", i+1, diff)
				}
			}
			want := map[netip.Addr]Key{}
			for _, a := range tc.dead {
				want[addr(a)] = key(a)
			}
			if diff := cmp.Diff(want, table.Dead(), compare); diff != "" {
				t.Errorf("dead neighbours (-want +got):\n%s", diff)
			}
		})
	}
}

// A list of all entries shows what happened while updates were lost; the first shows what was before.
func TestTableLoad(t *testing.T) {
	table := newTable()
	failed := Update{Key: key("10.0.0.7"), State: unix.NUD_FAILED}
	early := newTable()
	early.Load(nil)
	if got := early.Load([]Update{failed}); len(got) != 1 {
		t.Errorf("a list after an empty one: %+v, want an event", got)
	}
	if got := table.Load([]Update{failed}); len(got) > 0 {
		t.Errorf("the first list: %+v, want no event", got)
	}
	if !table.IsDead(failed.Key) {
		t.Error("an entry that failed before is not known as such")
	}
	six := Update{Key: key("2001:db8::7"), State: unix.NUD_FAILED}
	if diff := cmp.Diff([]Event{{key("2001:db8::7"), true, true, addrs("2001:db8::7")}}, table.Load([]Update{failed, six}), compare); diff != "" {
		t.Errorf("a second list (-want +got):\n%s", diff)
	}
	back := Update{Key: failed.Key, State: unix.NUD_REACHABLE, MAC: mac(7)}
	if diff := cmp.Diff([]Event{{failed.Key, false, true, addrs("10.0.0.7")}}, table.Load([]Update{back, six}), compare); diff != "" {
		t.Errorf("a third list (-want +got):\n%s", diff)
	}
	table.Load(nil)
	if table.MAC(back.Key) != mac(7) {
		t.Error("the link-layer address of an entry that is in no list is forgotten")
	}
	if !table.IsDead(six.Key) {
		t.Error("an entry that failed lives because it was cleared away")
	}
}

// The last known link-layer address outlives the failure.
func TestTableKeepsTheLinkLayerAddress(t *testing.T) {
	table := newTable()
	for _, u := range []Update{
		{Key: key("10.0.0.7"), State: unix.NUD_DELAY, MAC: mac(7)},
		{Key: key("10.0.0.7"), State: unix.NUD_FAILED},
		{Key: key("10.0.0.7"), Gone: true},
	} {
		table.Apply(u)
		if got := table.MAC(key("10.0.0.7")); got != mac(7) {
			t.Errorf("after %+v: % x", u, got)
		}
	}
}

// Nothing is kept of entries that are gone and have no address behind them.
func TestTableForgets(t *testing.T) {
	table := newTable()
	table.Load([]Update{{Key: key("10.0.0.7"), State: unix.NUD_STALE, MAC: mac(7)}, {Key: key("10.0.0.200"), State: unix.NUD_STALE}})
	table.Apply(Update{Key: key("10.0.0.200"), Gone: true})
	table.Apply(Update{Key: key("10.0.0.7"), Gone: true})
	if n := len(table.entries); n != 1 {
		t.Errorf("%d entries, want that of the backend", n)
	}
	table.SetRoutes(nil)
	if n := len(table.entries); n != 0 {
		t.Errorf("%d entries, want none", n)
	}
}

// Only neighbours on the link that are taken to be alive can be verified.
func TestTableUnverified(t *testing.T) {
	table := newTable()
	table.Load([]Update{
		{Key: key("10.0.0.7"), State: unix.NUD_REACHABLE, MAC: mac(7)},
		{Key: key("10.0.0.1"), State: unix.NUD_REACHABLE, MAC: mac(1)},
	})
	check := func(want bool) {
		t.Helper()
		if k, hw, ok := table.Unverified(addr("10.0.0.7")); ok != want || ok && (k != key("10.0.0.7") || hw != mac(7)) {
			t.Errorf("%v, % x, %t; want %t", k, hw, ok, want)
		}
	}
	check(true)
	if _, _, ok := table.Unverified(addr("10.1.0.7")); ok {
		t.Error("an address behind a router can be verified")
	}
	for _, u := range []Update{
		{Key: key("10.0.0.7"), State: unix.NUD_PERMANENT, MAC: mac(7), Admin: true},
		{Key: key("10.0.0.7"), State: unix.NUD_FAILED},
		{Key: key("10.0.0.7"), Gone: true},
	} {
		table.Apply(u)
		check(false)
		table.Apply(Update{Key: key("10.0.0.7"), State: unix.NUD_STALE, MAC: mac(7)})
		check(true)
	}
}
