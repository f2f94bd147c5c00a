package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// nameServer answers for one name, in a namespace, until the test ends.
type nameServer struct {
	mu     sync.Mutex
	addrs  []netip.Addr
	broken bool
}

const dnsName = "backend.example."

func serveNames(t *testing.T, in *netlab.Namespace, addrs ...netip.Addr) *nameServer {
	t.Helper()
	s := &nameServer{addrs: addrs}
	var packets net.PacketConn
	err := in.Do(func() (err error) {
		packets, err = net.ListenPacket("udp", "127.0.0.1:53")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: packets, Handler: s}
	go func() { _ = server.ActivateAndServe() }() // ends with its socket
	t.Cleanup(func() { _ = packets.Close() })
	return s
}

func (s *nameServer) set(broken bool, addrs ...netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken, s.addrs = broken, addrs
}

// ServeDNS answers with a TTL of one second.
func (s *nameServer) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := new(dns.Msg).SetReply(r)
	if s.broken {
		m.Rcode = dns.RcodeServerFailure
	}
	for _, a := range s.addrs {
		if q := r.Question[0]; q.Name == dnsName && q.Qtype == dns.TypeA && !s.broken {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: a.AsSlice()})
		}
	}
	_ = w.WriteMsg(m)
}

// Backends of a host follow its name; while nobody answers for it, they stay.
func TestHosts(t *testing.T) {
	t.Parallel()
	star := newStar(t, netlab.Options{Backends: 2})
	one, two := netip.AddrPortFrom(star.Backends[0].IPv4, port), netip.AddrPortFrom(star.Backends[1].IPv4, port)
	serve(t, star.Backends[0].Namespace, one)
	serve(t, star.Backends[1].Namespace, two)
	names := serveNames(t, star.Node, one.Addr())
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	policy := write("policy.yaml", "version: 1\npolicies:\n- {name: named, mode: forced-open, match: {hosts: ['backend.example:8080']}}\n")
	resolv := write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
	// Its own view of one file; the process is the agent's all the same.
	agent := startReady(t, star.Node, "unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, resolv,
		binary, "run", "--policy", policy, "--interface", "be*", "--metrics-address", "127.0.0.1:9464")
	isEnforced(t, star.Client, one, true)
	isEnforced(t, star.Client, two, false)
	names.set(false, two.Addr())
	isEnforced(t, star.Client, two, true)
	isEnforced(t, star.Client, one, false)
	names.set(true)
	agent.Expect("host lookup failed, keeping what is known")
	eventually(t, "the failure is noticed", func() bool {
		stale, _ := metric(t, star.Node, "cbagent_discovery_stale")
		return stale == 1
	})
	isEnforced(t, star.Client, two, true)
	names.set(false, one.Addr(), two.Addr())
	isEnforced(t, star.Client, one, true)
	isEnforced(t, star.Client, two, true)
}

// withAddresses gives a backend n more addresses and returns them.
func withAddresses(t *testing.T, b netlab.Backend, n int) []netip.AddrPort {
	t.Helper()
	var all []netip.AddrPort
	addr := b.IPv4
	for range n {
		addr = addr.Next()
		if err := b.Address("eth0", netip.PrefixFrom(addr, 24)); err != nil {
			t.Fatal(err)
		}
		all = append(all, netip.AddrPortFrom(addr, port))
	}
	return all
}

// Backends of a network are learned when they are called, and each has a circuit of its own. There are never more than
// allowed: those that were idle longest make room, but not those that fail.
func TestNetworksAreLearned(t *testing.T) {
	t.Parallel()
	star := newStar(t, netlab.Options{Backends: 1})
	b := star.Backends[0]
	all := withAddresses(t, b, 40)
	server := serve(t, b.Namespace, all...)
	policy := "version: 1\npolicies:\n- name: learned\n  match: {cidrs: ['10.21.0.0/16:8080']}\n  trip: [{consecutiveFailures: 3}]\n" +
		"  open: {duration: 5m}\n"
	l := newLineage(t, star.Node, policy, "--max-learned", "16")
	l.start()
	known := func() int {
		n, _ := metric(t, star.Node, "cbagent_policy_backends", `policy="learned"`)
		return int(n)
	}
	failing := all[0]
	wantStatus(t, call(t, client(t, star.Client, failing)), 200)
	eventually(t, "it is known", func() bool { return known() == 1 })
	server.Set(testserver.Behaviour{Status: 500})
	eventually(t, "its circuit opens", func() bool {
		_, kernel := call(t, client(t, star.Client, failing)).FromKernel()
		return kernel
	})
	server.Set(testserver.Behaviour{})
	for _, at := range all[1:] {
		wantStatus(t, call(t, client(t, star.Client, at)), 200)
	}
	eventually(t, "as many as fit are known", func() bool { return known() == 16 })
	wantAnswer(t, call(t, client(t, star.Client, failing)), "open")

	// Those that were learned are known to the next agent, too.
	l.now.Kill()
	l.start()
	wantAnswer(t, call(t, client(t, star.Client, failing)), "open")
	if n := known(); n != 16 {
		t.Errorf("%d backends are known after a restart, want 16", n)
	}
	var tally loadgen.Tally
	load := loadgen.Load{Dial: star.Client.DialContext, Targets: all[1:], Requests: 3, Workers: 1, Done: tally.Done}
	if err := load.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := tally.Counts(); got.ByOutcome["200"] != got.Requests {
		t.Errorf("clients of the others got %v", got.ByOutcome)
	}
	wantAnswer(t, call(t, client(t, star.Client, failing)), "open")
}

// A network that leaves its policy takes along what was learned from it.
func TestNetworkLeaves(t *testing.T) {
	t.Parallel()
	star := newStar(t, netlab.Options{Backends: 2})
	one, two := netip.AddrPortFrom(star.Backends[0].IPv4, port), netip.AddrPortFrom(star.Backends[1].IPv4, port)
	serve(t, star.Backends[0].Namespace, one)
	serve(t, star.Backends[1].Namespace, two)
	with := func(networks string) string {
		return fmt.Sprintf("version: 1\npolicies:\n- {name: learned, mode: forced-open, match: {cidrs: [%s]}}\n", networks)
	}
	_, change := startOn(t, star.Node, with("'10.21.1.0/24:8080', '10.21.2.0/24:8080'"))
	isEnforced(t, star.Client, one, true)
	isEnforced(t, star.Client, two, true)
	change(with("'10.21.2.0/24:8080'"))
	isEnforced(t, star.Client, one, false)
	isEnforced(t, star.Client, two, true)
	change(with("'10.21.1.0/24:8080'"))
	isEnforced(t, star.Client, one, true)
	isEnforced(t, star.Client, two, false)
}
