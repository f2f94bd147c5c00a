package discovery

import (
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// follower reads the updates of a Discovery and remembers the newest set of each policy.
type follower struct {
	t       *testing.T
	d       *Discovery
	sets    map[string]Set
	updates []Update
}

func startFollower(t *testing.T, opts Options, targets ...Target) *follower {
	t.Helper()
	d := New(slog.New(slog.NewTextHandler(t.Output(), nil)), opts)
	t.Cleanup(func() { d.Close() })
	d.SetPolicies(targets)
	return &follower{t: t, d: d, sets: make(map[string]Set)}
}

// until reads updates until good holds.
func (f *follower) until(what string, good func() bool) {
	f.t.Helper()
	deadline := time.After(20 * time.Second)
	for !good() {
		select {
		case u, ok := <-f.d.Updates():
			if !ok {
				f.t.Fatalf("the updates ended before %s", what)
			}
			f.updates = append(f.updates, u)
			for _, s := range u.Sets {
				f.sets[s.Policy] = s
			}
		case <-deadline:
			f.t.Fatalf("not within 20 s: %s\nsets: %+v\nstatus: %+v", what, f.sets, f.d.Status())
		}
	}
}

func (f *follower) has(policy string, want ...string) func() bool {
	return func() bool {
		s, ok := f.sets[policy]
		return ok && slices.Equal(addrsOf(s.Backends), parseAddrs(want))
	}
}

func (f *follower) status(name string) SourceStatus {
	f.t.Helper()
	for _, s := range f.d.Status() {
		if s.Name == name {
			return s
		}
	}
	f.t.Fatalf("no status of %s in %+v", name, f.d.Status())
	return SourceStatus{}
}

// poll waits for good without reading updates.
func poll(t *testing.T, what string, good func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !good(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func addrsOf(all []Backend) []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, b := range all {
		addrs = append(addrs, b.Addr)
	}
	return addrs
}

func parseAddrs(all []string) []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, s := range all {
		addrs = append(addrs, netip.MustParseAddrPort(s))
	}
	return addrs
}

func hosts(policy string, all ...Host) Target { return Target{Policy: policy, Hosts: all} }

func TestHostFollowsAnswers(t *testing.T) {
	t.Parallel()
	server := startDNS(t, freeAddr())
	server.set(t, "orders.test. 1 A 10.0.0.7", "orders.test. 1 A 10.0.0.8", "orders.test. 1 AAAA 2001:db8::7")
	f := startFollower(t, Options{ResolvConf: resolvConf(t, "nameserver "+server.addr)}, hosts("orders", Host{"orders.test", 8080}))
	f.until("the first answer", f.has("orders", "10.0.0.7:8080", "10.0.0.8:8080", "[2001:db8::7]:8080"))
	if s := f.sets["orders"]; !s.Complete || s.Err != nil {
		t.Fatalf("complete %v, error %v; want true and none", s.Complete, s.Err)
	}
	if b := f.sets["orders"].Backends[0]; b.Kind != KindHost || b.Source != "orders.test:8080" {
		t.Fatalf("backend %+v does not say where it comes from", b)
	}
	server.set(t, "orders.test. 1 A 10.0.0.8", "orders.test. 1 A 10.0.0.9", "orders.test. 1 AAAA 2001:db8::8")
	f.until("the changed answer", f.has("orders", "10.0.0.8:8080", "10.0.0.9:8080", "[2001:db8::8]:8080"))
}

func TestHostRespectsTTL(t *testing.T) {
	t.Parallel()
	server := startDNS(t, freeAddr())
	server.set(t, "short.test. 2 A 10.0.0.7", "zero.test. 0 A 10.0.0.8", "long.test. 86400 A 10.0.0.9",
		"chain.test. 3600 CNAME end.test.", "end.test. 1 A 10.0.0.10")
	f := startFollower(t, Options{ResolvConf: resolvConf(t, "nameserver "+server.addr)},
		hosts("p", Host{"short.test", 80}, Host{"zero.test", 80}, Host{"long.test", 80}, Host{"chain.test", 80}))
	f.until("all answers", f.has("p", "10.0.0.7:80", "10.0.0.8:80", "10.0.0.9:80", "10.0.0.10:80"))
	long := f.status("long.test")
	if got := long.Next.Sub(long.LastSuccess); got != maxTTL {
		t.Errorf("a TTL of a day is looked up again after %v, want %v", got, maxTTL)
	}
	poll(t, "the second lookups", func() bool {
		return len(server.queries("short.test.", dns.TypeA)) > 1 && len(server.queries("zero.test.", dns.TypeA)) > 1 &&
			len(server.queries("chain.test.", dns.TypeA)) > 1
	})
	for name, want := range map[string]time.Duration{"short.test.": 2 * time.Second, "zero.test.": minTTL, "chain.test.": time.Second} {
		q := server.queries(name, dns.TypeA)
		if got := q[1].at.Sub(q[0].at); got < want-10*time.Millisecond {
			t.Errorf("%s was looked up again after %v, before its TTL of %v was over", name, got, want)
		}
	}
	if n := len(server.queries("long.test.", dns.TypeA)); n != 1 {
		t.Errorf("long.test was asked for %d times, want once", n)
	}
}

func TestHostKeepsAnswersWhileDNSFails(t *testing.T) {
	t.Parallel()
	for _, failure := range []struct {
		name  string
		start func(*dnsServer)
	}{
		{"SERVFAIL", func(s *dnsServer) { s.rcodes["orders.test."] = dns.RcodeServerFailure }},
		{"REJECTED", func(s *dnsServer) { s.rcodes["orders.test."] = dns.RcodeRefused }},
		{"silence", func(s *dnsServer) { s.silent = true }},
	} {
		t.Run(failure.name, func(t *testing.T) {
			t.Parallel()
			server := startDNS(t, freeAddr())
			server.set(t, "orders.test. 1 A 10.0.0.7")
			f := startFollower(t, Options{ResolvConf: resolvConf(t, "nameserver "+server.addr, "options timeout:1 attempts:1")},
				hosts("orders", Host{"orders.test", 80}))
			f.until("the first answer", f.has("orders", "10.0.0.7:80"))
			server.change(failure.start)
			f.until("the failure is reported", func() bool { return f.sets["orders"].Err != nil })
			if s := f.sets["orders"]; !f.has("orders", "10.0.0.7:80")() || !s.Complete {
				t.Fatalf("while DNS fails the set is %+v", s)
			}
			if !strings.Contains(f.sets["orders"].Err.Error(), "orders.test") {
				t.Errorf("the error does not name the host: %v", f.sets["orders"].Err)
			}
			poll(t, "a second failure", func() bool { return f.status("orders.test").Failures >= 2 })
			if st := f.status("orders.test"); !st.Stale || st.LastError == "" || st.Answers != 1 {
				t.Errorf("status while DNS fails: %+v", st)
			}
			server.change(func(s *dnsServer) { s.silent = false; clear(s.rcodes) })
			server.set(t, "orders.test. 1 A 10.0.0.9")
			f.until("the answer after the failure", f.has("orders", "10.0.0.9:80"))
			f.until("the error is gone", func() bool { return f.sets["orders"].Err == nil })
			if st := f.status("orders.test"); st.Stale || st.LastError != "" {
				t.Errorf("status after the failure: %+v", st)
			}
		})
	}
}

func TestHostWithoutServerIsTriedAgain(t *testing.T) {
	t.Parallel()
	at := freeAddr()
	f := startFollower(t, Options{ResolvConf: resolvConf(t, "nameserver "+at, "options timeout:1 attempts:1")},
		hosts("orders", Host{"orders.test", 80}))
	f.until("the failure", func() bool { return f.sets["orders"].Err != nil })
	if s := f.sets["orders"]; s.Complete || len(s.Backends) != 0 {
		t.Fatalf("with no answer yet the set is %+v", s)
	}
	server := startDNS(t, at)
	server.set(t, "orders.test. 1 A 10.0.0.7")
	f.until("the answer", f.has("orders", "10.0.0.7:80"))
	if !f.sets["orders"].Complete {
		t.Fatal("answered but not complete")
	}
}

// A family that fails keeps its addresses while the other's are renewed.
func TestHostFamiliesFailApart(t *testing.T) {
	t.Parallel()
	v4 := family{addrs: []netip.Addr{netip.MustParseAddr("10.0.0.7")}, ttl: time.Minute}
	v6 := family{addrs: []netip.Addr{netip.MustParseAddr("2001:db8::7")}, ttl: time.Minute}
	h := &hostSource{name: "orders.test", logger: slog.New(slog.DiscardHandler)}
	h.take(v4, v6, time.Unix(1, 0))
	other := family{addrs: []netip.Addr{netip.MustParseAddr("10.0.0.8")}, ttl: time.Minute}
	wait, changed := h.take(other, family{err: errNoSuchHost}, time.Unix(2, 0))
	if wait != minTTL || !changed {
		t.Fatalf("next lookup after %v, changed %v; want %v and true", wait, changed, minTTL)
	}
	if got := addrsOf(h.answer("80").backends); !slices.Equal(got, parseAddrs([]string{"10.0.0.8:80", "[2001:db8::7]:80"})) {
		t.Fatalf("backends %v", got)
	}
	h.take(other, family{ttl: time.Minute}, time.Unix(3, 0))
	if got := addrsOf(h.answer("80").backends); !slices.Equal(got, parseAddrs([]string{"10.0.0.8:80"})) {
		t.Fatalf("backends %v after the answer that the other family has none", got)
	}
}

func TestHostBacksOff(t *testing.T) {
	t.Parallel()
	h := &hostSource{name: "orders.test", logger: slog.New(slog.DiscardHandler)}
	fail := family{err: errNoSuchHost}
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		if got, _ := h.take(fail, fail, time.Unix(int64(i), 0)); got != want*time.Second {
			t.Errorf("failure %d: next lookup after %v, want %v", i+1, got, want*time.Second)
		}
	}
	ok := family{addrs: []netip.Addr{netip.MustParseAddr("10.0.0.7")}, ttl: 7 * time.Second}
	if got, _ := h.take(ok, family{}, time.Unix(9, 0)); got != 7*time.Second {
		t.Errorf("after a success the next lookup is after %v, want the TTL of 7 s", got)
	}
	if got, _ := h.take(fail, fail, time.Unix(10, 0)); got != time.Second {
		t.Errorf("first failure after a success: next lookup after %v, want 1 s", got)
	}
}

func TestHostThatDoesNotExist(t *testing.T) {
	t.Parallel()
	server := startDNS(t, freeAddr())
	server.set(t, "orders.test. 1 A 10.0.0.7")
	f := startFollower(t, Options{ResolvConf: resolvConf(t, "nameserver "+server.addr)}, hosts("orders", Host{"orders.test", 80}))
	f.until("the first answer", f.has("orders", "10.0.0.7:80"))
	server.change(func(s *dnsServer) { clear(s.records) })
	f.until("the backend goes", func() bool { return len(f.sets["orders"].Backends) == 0 })
	asked := len(server.queries("orders.test.", dns.TypeA))
	if s := f.sets["orders"]; s.Err == nil || !strings.Contains(s.Err.Error(), "no such host") {
		t.Fatalf("error %v", s.Err)
	}
	if asked < 3 {
		t.Fatalf("gone after %d questions: one answer that it does not exist was enough", asked)
	}
	server.set(t, "orders.test. 1 A 10.0.0.8")
	f.until("the backend is back", f.has("orders", "10.0.0.8:80"))
}

func TestHostAnswersOfAllShapes(t *testing.T) {
	t.Parallel()
	server := startDNS(t, freeAddr())
	var many []string
	var want []string
	for i := range 100 {
		ip := netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}).String()
		many = append(many, "many.test. 60 A "+ip)
		want = append(want, ip+":80")
	}
	server.set(t, many...)
	server.set(t, "a.test. 60 CNAME b.test.", "b.test. 60 CNAME c.test.", "c.test. 60 A 10.0.0.1",
		"out.test. 60 CNAME elsewhere.test.", "elsewhere.test. 60 A 10.0.0.2",
		"loop.test. 60 CNAME pool.test.", "pool.test. 60 CNAME loop.test.",
		"mapped.test. 60 AAAA ::ffff:10.0.0.3", "mixed.test. 60 A 10.0.0.4")
	f := startFollower(t, Options{ResolvConf: resolvConf(t, "nameserver "+server.addr)},
		hosts("cname", Host{"a.test", 80}), hosts("followed", Host{"out.test", 80}), hosts("loop", Host{"loop.test", 80}),
		hosts("mapped", Host{"mapped.test", 80}), hosts("case", Host{"MIXED.test", 80}, Host{"mixed.test.", 81}),
		hosts("literal", Host{"10.0.0.5", 80}, Host{"::ffff:10.0.0.6", 80}))
	f.until("an alias of an alias", f.has("cname", "10.0.0.1:80"))
	f.until("an alias that the server does not follow", f.has("followed", "10.0.0.2:80"))
	f.until("a loop of aliases", func() bool { return f.sets["loop"].Err != nil })
	f.until("a mapped address", f.has("mapped", "10.0.0.3:80"))
	f.until("capital letters", f.has("case", "10.0.0.4:80", "10.0.0.4:81"))
	f.until("addresses", f.has("literal", "10.0.0.5:80", "10.0.0.6:80"))

	server.change(func(s *dnsServer) { s.bigUDP = true })
	f.d.SetPolicies([]Target{hosts("many", Host{"many.test", 80})})
	f.until("an answer over TCP", f.has("many", want...))
	if !slices.ContainsFunc(server.queries("many.test.", dns.TypeA), func(q query) bool { return q.network == "tcp" }) {
		t.Fatal("no question came over TCP")
	}
	server.change(func(s *dnsServer) { s.bigUDP, s.noEDNS = false, true })
	f.d.SetPolicies([]Target{hosts("old", Host{"a.test", 80})})
	f.until("an answer of a server without EDNS", f.has("old", "10.0.0.1:80"))
}

func TestHostUsesResolvConfAndHosts(t *testing.T) {
	t.Parallel()
	first, second := startDNS(t, freeAddr()), startDNS(t, freeAddr())
	second.set(t, "orders.shop.test. 60 A 10.0.0.7", "a.b.c. 60 A 10.0.0.8", "a.b.c.shop.test. 60 A 10.0.0.99",
		"static.test. 60 A 10.0.0.99")
	first.change(func(s *dnsServer) {
		for _, name := range []string{"orders.shop.test.", "a.b.c.", "orders.other.test."} {
			s.rcodes[name] = dns.RcodeServerFailure
		}
	})
	f := startFollower(t, Options{
		ResolvConf: resolvConf(t, "search other.test shop.test", "nameserver "+first.addr, "nameserver "+second.addr, "options ndots:2 timeout:1"),
		HostsFile:  writeFile(t, "hosts", "# comment\n10.0.0.9 static.test alias # more\n2001:db8::9 Static.test\nbroken line\n"),
	}, hosts("search", Host{"orders", 80}), hosts("ndots", Host{"a.b.c", 80}), hosts("static", Host{"static.test", 80}))
	f.until("a name of the search list, from the second server", f.has("search", "10.0.0.7:80"))
	f.until("a name with enough dots", f.has("ndots", "10.0.0.8:80"))
	f.until("a name of the hosts file", f.has("static", "10.0.0.9:80", "[2001:db8::9]:80"))
	if n := len(second.queries("static.test.", dns.TypeA)); n != 0 {
		t.Errorf("a name of the hosts file was asked for %d times", n)
	}
}
