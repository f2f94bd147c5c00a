package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// attacker is a pod beside the backend that knows the addresses and ports of connections, but none of their sequence
// numbers.
type attacker struct {
	wire     *netlab.Direction // to the node
	mac, pod [6]byte           // of the node's interface and the attacker's
	random   *rand.Rand
}

// newAttacker puts one in the second backend's place.
func newAttacker(t *testing.T, star *netlab.Star) *attacker {
	t.Helper()
	b := star.Backends[1]
	const seed = 1
	a := &attacker{wire: b.Relay.Backward, random: rand.New(rand.NewPCG(seed, 0))}
	for name, of := range map[*[6]byte]struct {
		in    *netlab.Namespace
		iface string
	}{&a.mac: {star.Node, b.Interface}, &a.pod: {b.Namespace, "eth0"}} {
		link, err := of.in.Links().LinkByName(of.iface)
		if err != nil {
			t.Fatal(err)
		}
		copy(name[:], link.Attrs().HardwareAddr)
	}
	return a
}

// send forges a segment. Its numbers are wherever the attacker's luck leads, but never near those that are right.
func (a *attacker) send(src, dst netip.AddrPort, flags uint8, right netlab.Segment, payload string) {
	const near = 1 << 28
	far := func(from uint32) uint32 { return from + near + a.random.Uint32N(1<<32-1-2*near) }
	a.wire.Inject(netlab.Segment{
		SrcMAC: a.pod, DstMAC: a.mac, Src: src, Dst: dst, Seq: far(right.Seq), Ack: far(right.Ack), Flags: flags, Window: 500,
		Payload: []byte(payload),
	}.Frame())
}

// forgeries are what is sent by others in the name of one end of a connection.
var forgeries = map[string]struct {
	flags   uint8
	payload string
}{
	"RST":       {netlab.RST, ""},
	"RST|ACK":   {netlab.RST | netlab.ACK, ""},
	"FIN|ACK":   {netlab.FIN | netlab.ACK, ""},
	"SYN|ACK":   {netlab.SYN | netlab.ACK, ""},
	"ACK":       {netlab.ACK, ""},
	"data":      {netlab.PSH | netlab.ACK, "HTTP/1.1 500 Forged\r\nContent-Length: 0\r\n\r\n"},
	"no flags":  {0, ""},
	"all flags": {netlab.FIN | netlab.SYN | netlab.RST | netlab.PSH | netlab.ACK, ""},
}

// recording remembers the last data segment that a relay carried from each client, until it is taken.
func recording(d *netlab.Direction) (take func(port uint16) (s netlab.Segment, ok bool)) {
	var mu sync.Mutex
	last := map[uint16]netlab.Segment{}
	d.SetHook(func(frame []byte) netlab.Fate {
		if s, ok := netlab.ParseSegment(frame); ok && len(s.Payload) > 0 {
			s.Options, s.Payload = nil, nil
			mu.Lock()
			last[s.Src.Port()] = s
			mu.Unlock()
		}
		return netlab.Fate{}
	})
	return func(port uint16) (netlab.Segment, bool) {
		mu.Lock()
		defer mu.Unlock()
		s, ok := last[port]
		delete(last, port)
		return s, ok
	}
}

// forgedPlace is a relayed place with an attacker beside the backend. Reverse path filters are as named: 1 is strict, and
// drops what the attacker sends after the node's programs have seen it; with 0 it is forwarded.
func forgedPlace(t *testing.T, rpFilter string) (relayed, *attacker) {
	t.Helper()
	star := newStar(t, netlab.Options{Backends: 2, ClientRelay: true, BackendRelays: true, Seed: 1})
	for _, iface := range []string{"all", star.Backends[1].Interface} {
		set(t, star.Node, "net.ipv4.conf."+iface+".rp_filter", rpFilter)
	}
	p := relayed{place: backendsPlace(t, star, false), clients: star.ClientRelay, backends: star.Backends[0].Relay}
	return p, newAttacker(t, star)
}

// TestForgedSegmentsChangeNothing: what an attacker sends in the name of the backend, or of the client, while requests
// wait for their responses ends no connection, opens no circuit, and hides no failure. Each request meets all forgeries, in
// an order of its own; the packet tables of internal/loader have each of them alone.
func TestForgedSegmentsChangeNothing(t *testing.T) {
	t.Parallel()
	for as, rpFilter := range map[string]string{"backend": "1", "client": "0", "backend and the client": "0"} {
		t.Run("of the "+as, func(t *testing.T) {
			t.Parallel()
			p, a := forgedPlace(t, rpFilter)
			forge := func(right netlab.Segment) {
				before, sent := nodePackets(t, p), 0.0
				for _, f := range forgeries { // in a random order
					if as != "client" {
						back := netlab.Segment{Seq: right.Ack, Ack: right.Seq}
						a.send(right.Dst, right.Src, f.flags, back, f.payload)
						sent++
					}
					if as != "backend" {
						a.send(right.Src, right.Dst, f.flags, right, f.payload)
						sent++
					}
				}
				eventually(t, "the programs have seen them", func() bool { return nodePackets(t, p) >= before+sent })
			}
			testForged(t, p, forge)
		})
	}
}

// nodePackets returns how many packets of backends the programs have seen.
func nodePackets(t *testing.T, p relayed) float64 {
	t.Helper()
	n, _ := metric(t, p.node, "cbagent_packets_total")
	return n
}

// testForged has forge interfere with requests of kept connections that the backend answers, then with some that fail by
// their status, and then with some that the backend resets.
func testForged(t *testing.T, p relayed, forge func(right netlab.Segment)) {
	const clients = 5
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, fmt.Sprintf("trip: [{failureCount: %d}]", 2*clients),
		"open: {duration: 5m}"), p.interfaces)
	take := recording(p.clients.Forward)
	var kept []net.Conn
	for range clients {
		kept = append(kept, dial(t, p.place))
	}
	askAll := func(want string, b testserver.Behaviour) {
		t.Helper()
		p.server.Set(b)
		var asking sync.WaitGroup
		for _, c := range kept {
			asking.Go(func() {
				if got := ask(c); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			})
		}
		for _, c := range kept {
			var s netlab.Segment
			eventually(t, "its request is sent", func() (ok bool) {
				s, ok = take(uint16(c.LocalAddr().(*net.TCPAddr).Port))
				return ok
			})
			forge(s)
		}
		asking.Wait()
	}
	const forging = 300 * time.Millisecond
	askAll("200", testserver.Behaviour{Delay: forging})
	askAll("500", testserver.Behaviour{Delay: forging, Status: 500})
	if got := agent.Transitions(); len(got) > 0 {
		t.Fatalf("transitions %+v of what an attacker sent", got)
	}
	wantMetric(t, p.place, clients, "cbagent_responses_total", `status="200"`)
	wantMetric(t, p.place, clients, "cbagent_responses_total", `status="500"`)
	wantMetric(t, p.place, clients, "cbagent_connections")
	began := time.Now()
	askAll("reset", testserver.Behaviour{Delay: forging, Ending: testserver.EndReset})
	wantMetric(t, p.place, clients, "cbagent_outcomes_total", `outcome="reset"`)
	if _, err := agent.Await(soon(t), p.backend.String(), "open", began); err != nil {
		t.Fatal(err)
	}
	wantMetric(t, p.place, 3*clients, "cbagent_outcomes_total")
	wantAnswer(t, call(t, client(t, p.client, p.dial)), "open")
}

// ask sends a request on an open connection and returns the status, or reset.
func ask(c net.Conn) string {
	if _, err := fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return err.Error()
	}
	got := make([]byte, 4096)
	n, err := c.Read(got)
	if errors.Is(err, syscall.ECONNRESET) {
		return "reset"
	}
	if err != nil {
		return err.Error()
	}
	var version, status string
	if _, err := fmt.Sscan(string(got[:n]), &version, &status); err != nil {
		return err.Error()
	}
	return status
}

// TestForgedResetOfASYN: a RST that does not acknowledge the SYN is no rejection of the backend.
func TestForgedResetOfASYN(t *testing.T) {
	t.Parallel()
	p, a := forgedPlace(t, "1")
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, "trip: [{failureCount: 3}]"), p.interfaces)
	// Its SYN has passed the node when the attacker's RST comes, and goes on later.
	syns := make(chan netlab.Segment, 1)
	p.backends.Forward.SetHook(func(frame []byte) netlab.Fate {
		s, ok := netlab.ParseSegment(frame)
		if !ok || s.Flags&netlab.SYN == 0 {
			return netlab.Fate{}
		}
		s.Options = nil
		syns <- s
		return netlab.Fate{Delay: 100 * time.Millisecond}
	})
	for range 5 {
		result := make(chan loadgen.Result, 1)
		c := client(t, p.client, p.dial)
		go func() { result <- c.Do(t.Context(), loadgen.Request{Close: true}) }()
		s := <-syns
		for _, flags := range []uint8{netlab.RST, netlab.RST | netlab.ACK} {
			a.send(s.Dst, s.Src, flags, netlab.Segment{Ack: s.Seq + 1}, "")
		}
		wantStatus(t, <-result, 200)
	}
	if got := agent.Transitions(); len(got) > 0 {
		t.Errorf("transitions %+v of what an attacker sent", got)
	}
	wantMetric(t, p.place, 5, "cbagent_responses_total", `status="200"`)
	wantMetric(t, p.place, 5, "cbagent_outcomes_total")
}
