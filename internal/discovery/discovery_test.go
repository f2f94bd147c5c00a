package discovery

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func addresses(policy string, all ...string) Target {
	return Target{Policy: policy, Addresses: parseAddrs(all)}
}

func TestDiscoveryAddresses(t *testing.T) {
	t.Parallel()
	f := startFollower(t, Options{}, addresses("b", "[::ffff:10.0.0.2]:80", "10.0.0.1:80", "10.0.0.2:80"), addresses("a"))
	f.until("both policies", func() bool { return len(f.sets) == 2 })
	if !f.has("b", "10.0.0.1:80", "10.0.0.2:80")() || !f.sets["a"].Complete || len(f.sets["a"].Backends) != 0 {
		t.Fatalf("sets %+v", f.sets)
	}
	if first := f.updates[0]; len(first.Sets) != 2 || first.Sets[0].Policy != "b" || first.Since.IsZero() {
		t.Errorf("the first update is not both, in file order: %+v", first)
	}
}

func TestDiscoveryReload(t *testing.T) {
	t.Parallel()
	f := startFollower(t, Options{}, addresses("a", "10.0.0.1:80"), addresses("b", "10.0.0.2:80"))
	f.until("both", func() bool { return len(f.sets) == 2 })
	before := len(f.updates)
	f.d.SetPolicies([]Target{addresses("b", "10.0.0.2:80"), addresses("a", "10.0.0.1:80", "10.0.0.3:80"), addresses("c", "10.0.0.4:80")})
	f.until("the new policy", f.has("c", "10.0.0.4:80"))
	f.until("the changed policy", f.has("a", "10.0.0.1:80", "10.0.0.3:80"))
	for _, u := range f.updates[before:] {
		for _, s := range u.Sets {
			if s.Policy == "b" {
				t.Errorf("an update of a policy that is as it was: %+v", s)
			}
		}
	}
	f.d.SetPolicies([]Target{addresses("c", "10.0.0.4:80")})
	delete(f.sets, "a")
	f.d.SetPolicies([]Target{addresses("a", "10.0.0.1:80", "10.0.0.3:80"), addresses("c", "10.0.0.4:80")})
	f.until("a policy that is back", f.has("a", "10.0.0.1:80", "10.0.0.3:80"))
}

// A reader that does not read gets the newest state when it does, not every state in between.
func TestDiscoverySlowReader(t *testing.T) {
	t.Parallel()
	f := startFollower(t, Options{}, addresses("a", "10.0.0.1:80"))
	f.until("the first", f.has("a", "10.0.0.1:80"))
	before := len(f.updates)
	const last = 200
	for i := 2; i <= last; i++ {
		f.d.SetPolicies([]Target{addresses("a", fmt.Sprintf("10.0.0.%d:80", i))})
	}
	f.until("the last", f.has("a", fmt.Sprintf("10.0.0.%d:80", last)))
	if n := len(f.updates) - before; n >= last-1 {
		t.Errorf("%d updates for %d changes without a reader", n, last-1)
	}
}

func TestDiscoveryWithoutKubernetes(t *testing.T) {
	t.Parallel()
	f := startFollower(t, Options{}, Target{Policy: "a", Addresses: parseAddrs([]string{"10.0.0.1:80"}), Services: []Service{{"shop", "orders", "http"}}})
	f.until("the address", f.has("a", "10.0.0.1:80"))
	s := f.sets["a"]
	if !errors.Is(s.Err, ErrNoKube) || !strings.Contains(s.Err.Error(), "shop/orders") || s.Complete {
		t.Errorf("set %+v", s)
	}
	if st := f.status("shop/orders"); st.Kind != "service" || st.LastError == "" || st.Answered {
		t.Errorf("status %+v", st)
	}
}

// A policy whose host is replaced by another keeps what it had until the new one has answered.
func TestDiscoveryKeepsBackendsOverReload(t *testing.T) {
	t.Parallel()
	server := startDNS(t, freeAddr())
	server.set(t, "old.test. 60 A 10.0.0.1", "old.test. 60 A 10.0.0.2", "new.test. 60 A 10.0.0.2", "new.test. 60 A 10.0.0.3")
	server.change(func(s *dnsServer) { s.rcodes["new.test."] = 2 })
	f := startFollower(t, Options{ResolvConf: resolvConf(t, "nameserver "+server.addr)}, hosts("p", Host{"old.test", 80}))
	f.until("the old host", f.has("p", "10.0.0.1:80", "10.0.0.2:80"))
	f.d.SetPolicies([]Target{hosts("p", Host{"new.test", 80})})
	f.until("that the new one has not answered", func() bool { return !f.sets["p"].Complete })
	if !f.has("p", "10.0.0.1:80", "10.0.0.2:80")() {
		t.Fatalf("meanwhile the set is %+v", f.sets["p"])
	}
	server.change(func(s *dnsServer) { clear(s.rcodes) })
	f.until("the new host", f.has("p", "10.0.0.2:80", "10.0.0.3:80"))
	if !f.sets["p"].Complete {
		t.Error("answered but not complete")
	}
	for _, s := range f.d.Status() {
		if s.Name == "old.test" {
			t.Errorf("the old host is still followed: %+v", s)
		}
	}
}

// ... but not for ever: a new host that never answers does not keep the old one's backends alive.
func TestDiscoveryKeepsBackendsOnlyForAWhile(t *testing.T) {
	t.Parallel()
	server := startDNS(t, freeAddr())
	server.set(t, "old.test. 60 A 10.0.0.1")
	server.change(func(s *dnsServer) { s.rcodes["new.test."] = 2 })
	f := startFollower(t, Options{ResolvConf: resolvConf(t, "nameserver "+server.addr)}, hosts("p", Host{"old.test", 80}))
	f.until("the old host", f.has("p", "10.0.0.1:80"))
	begun := time.Now()
	f.d.SetPolicies([]Target{hosts("p", Host{"new.test", 80})})
	f.until("the old backend is removed", f.has("p"))
	if kept := time.Since(begun); kept < reloadGrace {
		t.Errorf("it was kept for %v, want %v", kept, reloadGrace)
	}
}

// A reload that comes right after the first update, before the update is noted as delivered, keeps the backends, too.
func TestReloadRightAfterAnUpdate(t *testing.T) {
	d := &Discovery{logger: slog.New(slog.DiscardHandler), ctx: t.Context(), sources: map[sourceKey]source{}}
	d.setPolicies([]Target{{Policy: "p", Addresses: parseAddrs([]string{"10.0.0.1:80"})}})
	_, sent, _ := d.gather()
	d.setPolicies([]Target{{Policy: "p", Services: []Service{{"shop", "orders", "http"}}}}) // which does not answer
	sent()
	u, _, _ := d.gather()
	if len(u.Sets) != 1 || len(u.Sets[0].Backends) != 1 {
		t.Errorf("sets %+v; want the backend that there was", u.Sets)
	}
}

func TestDiscoveryClose(t *testing.T) {
	t.Parallel()
	server := startDNS(t, freeAddr())
	server.change(func(s *dnsServer) { s.silent = true })
	d := New(slog.New(slog.DiscardHandler), Options{ResolvConf: resolvConf(t, "nameserver "+server.addr, "options timeout:30")})
	d.SetPolicies([]Target{hosts("p", Host{"a.test", 80})})
	poll(t, "a question under way", func() bool { return len(server.queries("a.test.", 1)) > 0 })
	begun := time.Now()
	if err := errors.Join(d.Close(), d.Close()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it waited %v for an answer", took)
	}
	for range d.Updates() { // ends
	}
	d.SetPolicies([]Target{addresses("p", "10.0.0.1:80")})
	if st := d.Status(); len(st) != 0 {
		t.Errorf("status after Close: %+v", st)
	}
}

func TestNormalize(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.1:80": "10.0.0.1:80", "[::ffff:10.0.0.1]:80": "10.0.0.1:80", "[2001:db8::1]:80": "[2001:db8::1]:80", "[fe80::1%eth0]:80": "[fe80::1]:80",
	} {
		if got := Normalize(netip.MustParseAddrPort(in)); got != netip.MustParseAddrPort(want) {
			t.Errorf("%s becomes %v, want %s", in, got, want)
		}
	}
}

// Of two that name the same address the one that knows more stays, and one that does not drain wins.
func TestSortBackends(t *testing.T) {
	at := addr("10.0.0.1:80")
	got := sortBackends([]Backend{
		{Addr: addr("10.0.0.2:80"), Kind: KindAddress},
		{Addr: at, Kind: KindService, Pod: "old", Terminating: true},
		{Addr: at, Kind: KindAddress},
		{Addr: at, Kind: KindService, Pod: "new"},
	})
	want := []Backend{{Addr: at, Kind: KindService, Pod: "new"}, {Addr: addr("10.0.0.2:80"), Kind: KindAddress}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
