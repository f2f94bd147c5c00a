package attach

import (
	"log/slog"
	"net/netip"
	"testing"

	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/tables"
)

func TestAddresses(t *testing.T) {
	const second = int64(1e9)
	own, fails, listed := map[netip.Addr]bool{}, false, 0
	a := NewAddresses(slog.New(slog.DiscardHandler), "n1")
	a.list = func() (map[netip.Addr]bool, error) {
		listed++
		if fails {
			return nil, errFake
		}
		return own, nil
	}
	steps := []struct {
		name    string
		now     int64
		own     map[netip.Addr]bool
		fails   bool
		expire  bool
		changed bool
		listed  int
	}{
		{"first", second, map[netip.Addr]bool{netip.MustParseAddr("192.0.2.1"): true}, false, false, true, 1},
		{"too early", 2*second - 1, map[netip.Addr]bool{}, false, false, false, 1},
		{"fails", 2 * second, map[netip.Addr]bool{}, true, false, false, 2},
		{"as before", 3 * second, map[netip.Addr]bool{netip.MustParseAddr("192.0.2.1"): true}, false, false, false, 3},
		{"at once", 3*second + 1, map[netip.Addr]bool{netip.MustParseAddr("192.0.2.2"): true}, false, true, true, 4},
	}
	for _, s := range steps {
		own, fails = s.own, s.fails
		if s.expire {
			a.Expire()
		}
		if changed := a.Refresh(s.now); changed != s.changed || listed != s.listed {
			t.Errorf("%s: changed %v, listed %d times; want %v, %d", s.name, changed, listed, s.changed, s.listed)
		}
	}
	if !a.Within(netip.MustParsePrefix("192.0.2.0/24")) || a.Within(netip.MustParsePrefix("192.0.2.0/31")) {
		t.Error("192.0.2.2 is the node's only address")
	}
}

func TestFlags(t *testing.T) {
	here, there := netip.MustParseAddrPort("192.0.2.1:80"), netip.MustParseAddrPort("192.0.2.2:80")
	for name, tc := range map[string]struct {
		node string
		b    discovery.Backend
		want tables.BackendFlags
	}{
		"elsewhere":         {"n1", discovery.Backend{Addr: there, Node: "n2", Pod: "p"}, 0},
		"on the host":       {"n1", discovery.Backend{Addr: here}, tables.OnHost},
		"a pod":             {"n1", discovery.Backend{Addr: there, Node: "n1", Pod: "p"}, tables.LocalPod},
		"of the node":       {"n1", discovery.Backend{Addr: there, Node: "n1"}, 0},
		"a host's pod":      {"n1", discovery.Backend{Addr: here, Node: "n1", Pod: "p"}, tables.OnHost | tables.LocalPod},
		"not in Kubernetes": {"", discovery.Backend{Addr: there, Pod: "p"}, 0},
	} {
		a := NewAddresses(slog.New(slog.DiscardHandler), tc.node)
		a.own = map[netip.Addr]bool{here.Addr(): true}
		if got := a.Flags(tc.b); got != tc.want {
			t.Errorf("%s: %b, want %b", name, got, tc.want)
		}
	}
}

func TestListAddresses(t *testing.T) {
	all, err := listAddresses()
	if err != nil {
		t.Fatal(err)
	}
	for addr := range all {
		if addr.IsLoopback() {
			t.Errorf("%s is no address by which others know the node", addr)
		}
	}
}
