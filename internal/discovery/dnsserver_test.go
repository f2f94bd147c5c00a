package discovery

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// dnsServer is a real DNS server on port 53, UDP and TCP, of one loopback address.
type dnsServer struct {
	addr string

	mu      sync.Mutex
	records map[string][]dns.RR // by name and type: "name./A"; a CNAME answers both types
	rcodes  map[string]int      // by name
	silent  bool
	bigUDP  bool // truncate every UDP answer
	noEDNS  bool
	soa     string // in the authority section of every answer without records; empty: none
	asked   []query
	servers []*dns.Server
}

type query struct {
	name    string
	qtype   uint16
	network string
	at      time.Time
}

var addrsTaken atomic.Uint32

// freeAddr returns a loopback address that no other test has, since each server needs port 53.
func freeAddr() string {
	n := addrsTaken.Add(1)
	return netip.AddrFrom4([4]byte{127, 0, 1, byte(n)}).String()
}

func startDNS(t *testing.T, addr string) *dnsServer {
	t.Helper()
	s := &dnsServer{addr: addr, records: make(map[string][]dns.RR), rcodes: make(map[string]int)}
	s.start(t)
	t.Cleanup(func() { s.stop(t) })
	return s
}

func (s *dnsServer) start(t *testing.T) {
	t.Helper()
	packets, err := net.ListenPacket("udp", net.JoinHostPort(s.addr, "53"))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(s.addr, "53"))
	if err != nil {
		t.Fatal(err)
	}
	s.servers = []*dns.Server{{PacketConn: packets, Handler: s}, {Listener: listener, Handler: s}}
	for _, one := range s.servers {
		ready := make(chan struct{})
		one.NotifyStartedFunc = func() { close(ready) }
		go one.ActivateAndServe()
		<-ready
	}
}

func (s *dnsServer) stop(t *testing.T) {
	t.Helper()
	for _, one := range s.servers {
		if err := one.Shutdown(); err != nil {
			t.Errorf("stop the DNS server: %v", err)
		}
	}
	s.servers = nil
}

// set replaces the records of the names that occur in lines (zone file syntax).
func (s *dnsServer) set(t *testing.T, lines ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := make(map[string][]dns.RR)
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		key := rr.Header().Name + "/" + dns.TypeToString[rr.Header().Rrtype]
		fresh[key] = append(fresh[key], rr)
	}
	for key, rrs := range fresh {
		s.records[key] = rrs
	}
}

func (s *dnsServer) change(f func(*dnsServer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

func (s *dnsServer) queries(name string, qtype uint16) []query {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []query
	for _, q := range s.asked {
		if strings.EqualFold(q.name, name) && q.qtype == qtype {
			all = append(all, q)
		}
	}
	return all
}

// ServeDNS answers from the records, following aliases as a recursive server does.
func (s *dnsServer) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := r.Question[0]
	network := w.LocalAddr().Network()
	s.asked = append(s.asked, query{q.Name, q.Qtype, network, time.Now()})
	if s.silent {
		return
	}
	reply := new(dns.Msg)
	reply.SetReply(r)
	name, exists := strings.ToLower(q.Name), false
	rcode, failing := s.rcodes[name]
	switch {
	case s.noEDNS && r.IsEdns0() != nil:
		reply.Rcode = dns.RcodeFormatError
	case failing:
		reply.Rcode = rcode
	case s.bigUDP && network == "udp":
		reply.Truncated = true
	default:
		for range 20 {
			for key := range s.records {
				exists = exists || strings.HasPrefix(key, name+"/")
			}
			if found := s.records[name+"/"+dns.TypeToString[q.Qtype]]; len(found) > 0 {
				reply.Answer = append(reply.Answer, found...)
				break
			}
			alias := s.records[name+"/CNAME"]
			if len(alias) == 0 {
				break
			}
			reply.Answer = append(reply.Answer, alias...)
			name = alias[0].(*dns.CNAME).Target
			if strings.HasPrefix(name, "elsewhere.") && q.Name != name { // a name that this server does not follow
				break
			}
		}
		if !exists {
			reply.Rcode = dns.RcodeNameError
		}
		if rr, err := dns.NewRR(s.soa); err == nil && rr != nil && len(reply.Answer) == 0 {
			reply.Ns = append(reply.Ns, rr)
		}
	}
	w.WriteMsg(reply)
}

// resolvConf writes a resolv.conf and returns its path.
func resolvConf(t *testing.T, lines ...string) string {
	t.Helper()
	return writeFile(t, "resolv.conf", strings.Join(lines, "\n")+"\n")
}

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
