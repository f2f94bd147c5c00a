package loader

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// zoo is a datapath with a circuit of each kind.
type zoo struct {
	*rig
	backends []netip.AddrPort // of circuits 1, 2 ...
	hooks    []hookUnderTest
}

func newZoo(t testing.TB) *zoo {
	z := &zoo{rig: newRig(t)}
	z.hooks = append(z.rig.hooks(), hookUnderTest{name: "xdp", prog: z.program("xdp"), xdp: true})
	far := ledger.Verdict{Kind: ledger.Open, Generation: 1, Until: 1 << 62}
	for i, c := range []struct {
		policy  tables.PolicySettings
		verdict ledger.Verdict
	}{
		{tables.PolicySettings{Existing: true, Timeout: time.Second, ConnectTimeout: time.Second}, ledger.Verdict{Kind: ledger.Closed}},
		{tables.PolicySettings{Existing: true}, far},
		{tables.PolicySettings{Existing: true, Reject: tables.Reset}, ledger.Verdict{Kind: ledger.ForcedOpen}},
		{tables.PolicySettings{Existing: true, Reject: tables.Drop}, far},
		{tables.PolicySettings{Existing: true}, halfOpen(1000, 2)},
		{tables.PolicySettings{Protocol: tables.TCP, Reject: tables.Reset, Existing: true, MaxConnections: 3}, ledger.Verdict{Kind: ledger.Closed}},
		{tables.PolicySettings{MaxConnections: 2, MaxRequests: 1, MaxRequestsPerConnection: 3}, ledger.Verdict{Kind: ledger.Closed}},
		{tables.PolicySettings{RateLimit: 100, RatePeriod: time.Second, RateBurst: 5}, ledger.Verdict{Kind: ledger.Closed, Monitor: true}},
	} {
		addr := netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)})
		if i%2 == 1 {
			addr = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(i + 1)})
		}
		ap := netip.AddrPortFrom(addr, 8080)
		if err := z.putAt(i+1, ap, c.policy, c.verdict); err != nil {
			t.Fatal(err)
		}
		// Those that reset are for clients from elsewhere too, which XDP is for.
		if c.policy.Reject == tables.Reset {
			if err := z.backend(tables.Backend{Addr: ap, Direction: tables.Inbound}, i+1, 0); err != nil {
				t.Fatal(err)
			}
		}
		if i%3 == 0 {
			if err := z.backend(tables.Backend{Addr: ap}, i+1, tables.OnHost); err != nil {
				t.Fatal(err)
			}
		}
		z.backends = append(z.backends, ap)
	}
	z.d.SetHostBackends(true)
	z.d.SetNATOnLo(true)
	return z
}

// ours is a second opinion, as simple as can be: whether a frame is a TCP packet to or from one of the backends.
func (z *zoo) ours(frame []byte, l3 bool) bool {
	proto := binary.BigEndian.Uint16(frame[12:])
	ip := frame
	if !l3 {
		ip = frame[14:]
		if proto == 0x8100 || proto == 0x88a8 {
			if len(ip) < 4 {
				return false
			}
			proto, ip = binary.BigEndian.Uint16(ip[2:]), ip[4:]
		}
	}
	var src, dst netip.Addr
	var tcp []byte
	switch {
	case proto == etherTypeIPv4 && len(ip) >= 40 && ip[0]&15 == 5 && ip[9] == 6 && binary.BigEndian.Uint16(ip[6:])&0x3fff == 0:
		src, dst, tcp = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20])), ip[20:]
	case proto == etherTypeIPv6 && len(ip) >= 60 && ip[6] == 6:
		src, dst, tcp = netip.AddrFrom16([16]byte(ip[8:24])).Unmap(), netip.AddrFrom16([16]byte(ip[24:40])).Unmap(), ip[40:]
	default:
		return false
	}
	from := netip.AddrPortFrom(src, binary.BigEndian.Uint16(tcp))
	to := netip.AddrPortFrom(dst, binary.BigEndian.Uint16(tcp[2:]))
	for _, b := range z.backends {
		if from == b || to == b {
			return true
		}
	}
	return false
}

// try puts a frame to a program and checks what must be true of any frame.
func (z *zoo) try(t *testing.T, h hookUnderTest, frame []byte, ctx skbContext) {
	t.Helper()
	verdict, out, err := 0, []byte(nil), error(nil)
	if h.xdp {
		opts := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+256)}
		var ret uint32
		ret, err = h.prog.Run(&opts)
		verdict, out = map[uint32]int{xdpPass: verdictNext, xdpTX: verdictRedirect, xdpDrop: verdictDrop}[ret], opts.DataOut
	} else {
		verdict, out, err = z.run(h.prog, frame, ctx)
	}
	if errors.Is(err, unix.EINVAL) && len(frame) < 14+40 {
		return // the kernel does not put such a frame to programs
	}
	if err != nil {
		t.Fatalf("%s: % x: %v", h.name, frame, err)
	}
	n, pass := uint64(0), false
	for key, k := range z.counted() {
		n += k
		pass = pass || bytes.Contains([]byte(key), []byte(" pass "))
	}
	if n != 1 {
		t.Fatalf("%s: % x: counted %d times", h.name, frame, n)
	}
	switch verdict {
	case verdictNext:
		if !pass || !bytes.Equal(frame, out) {
			t.Fatalf("%s: % x: passed, but counted otherwise or changed: % x", h.name, frame, out)
		}
		return
	case verdictRedirect, verdictOK:
		if s, err := parseSegment(out, h.l3); err != nil {
			t.Fatalf("%s: % x became %s: %v", h.name, frame, s, err)
		}
	case verdictDrop:
	default:
		t.Fatalf("%s: % x: verdict %d", h.name, frame, verdict)
	}
	if pass {
		t.Fatalf("%s: % x: verdict %d, but counted as passed", h.name, frame, verdict)
	}
	if !z.ours(frame, h.l3) {
		t.Fatalf("%s: % x is none of ours, but got verdict %d", h.name, frame, verdict)
	}
}

// addsUp compares the counts of the circuits with what the flows say.
func (z *zoo) addsUp(t *testing.T) {
	t.Helper()
	connections, requests, all := map[uint32]uint64{}, map[uint32]uint64{}, uint64(0)
	var key bpf.CFlowKey
	var f bpf.CFlow
	it := z.d.objs.Flows.Iterate()
	for it.Next(&key, &f) {
		all++
		phase := bpf.CPhase(f.State & 0xff)
		if phase != bpf.CPhasePHASE_EXPIRED {
			connections[f.Target]++
		}
		if bpf.CRequestState(f.Request.State&0xff) != bpf.CRequestStateREQUEST_NONE {
			requests[f.Request.Circuit]++
		}
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	for _, s := range z.streams() {
		if bpf.CRequestState(s.Request.State&0xff) != bpf.CRequestStateREQUEST_NONE {
			requests[s.Request.Circuit]++
		}
	}
	if n := z.d.NodeCounts().Flows; n != all {
		t.Errorf("%d flows are counted, there are %d", n, all)
	}
	for i := range z.backends {
		c := uint32(i + 1)
		total := z.d.Totals(i + 1)
		if total.Connections != connections[c] || total.InFlight != requests[c] {
			t.Errorf("circuit %d counts %d connections and %d requests; its flows are %d and %d",
				c, total.Connections, total.InFlight, connections[c], requests[c])
		}
		var ended uint64
		for _, n := range total.Outcomes {
			ended += n
		}
		// With tcp connections are admitted, and their outcome is reported once they are established.
		if i != 5 && ended < total.Admitted-total.InFlight {
			t.Errorf("circuit %d: %d were admitted, %d are in flight, %d outcomes", c, total.Admitted, total.InFlight, ended)
		}
	}
}

var payloads = []string{
	"", "", "", get, head, ok, failed, proceed, "G", "PO", "CONNECT a:1 HTTP/1.1\r\n\r\n", "HTTP/1.1 101 Switching\r\n\r\n", "HTTP/1.",
	"1 503 ", "\r\n\r\n", "garbage", proceed + failed,
}

// random makes a frame that means something to the programs more often than not.
func (z *zoo) random(rnd *rand.Rand, h hookUnderTest) []byte {
	backend := z.backends[rnd.IntN(len(z.backends))]
	client := netip.AddrPortFrom(clientV4.Addr(), uint16(40000+rnd.IntN(6)))
	if backend.Addr().Is6() {
		client = netip.AddrPortFrom(clientV6.Addr(), client.Port())
	}
	s := segment{src: client, dst: backend, l3: h.l3, srcMAC: clientMAC, dstMAC: nodeMAC}
	if rnd.IntN(3) == 0 {
		s.src, s.dst = s.dst, s.src
	}
	s.flags = []uint8{syn, syn, syn | ack, ack, ack, psh | ack, psh | ack, psh | ack, fin | ack, rst, rst | ack, uint8(rnd.Uint32())}[rnd.IntN(12)]
	s.seq = 1000 + uint32(rnd.IntN(4)*rnd.IntN(60))
	s.ack = 1000 + uint32(rnd.IntN(4)*rnd.IntN(60))
	if rnd.IntN(20) == 0 {
		s.seq, s.ack = rnd.Uint32(), rnd.Uint32()
	}
	s.payload = []byte(payloads[rnd.IntN(len(payloads))])
	switch rnd.IntN(5) {
	case 0:
		s.options = timestamps(rnd.Uint32(), rnd.Uint32())
	case 1:
		s.options = mssOption(uint16(rnd.Uint32()))
	case 2:
		s.options = make([]byte, 4*rnd.IntN(11))
		for i := range s.options {
			s.options[i] = byte(rnd.Uint32())
		}
	}
	if !h.l3 && rnd.IntN(10) == 0 {
		s.vlans = []uint16{etherTypeVLAN}
	}
	frame := s.bytes()
	switch rnd.IntN(12) {
	case 0:
		frame = frame[:14+rnd.IntN(len(frame)-14)]
	case 1:
		for range 1 + rnd.IntN(4) {
			frame[rnd.IntN(len(frame))] = byte(rnd.Uint32())
		}
	case 2:
		frame[12+rnd.IntN(min(len(frame)-12, 60))] ^= 1 << rnd.IntN(8)
	}
	return frame
}

func TestRandomPackets(t *testing.T) {
	z, rnd := newZoo(t), seeded(t)
	end := time.Now().Add(2 * time.Second)
	n := 0
	for ; time.Now().Before(end) && n < 40000; n++ {
		h := z.hooks[rnd.IntN(len(z.hooks))]
		ctx := skbContext{} // XDP has none, and is on an uplink
		if rnd.IntN(8) == 0 {
			ctx.IngressIfindex = []uint32{5, uplinkIndex}[rnd.IntN(2)]
		}
		z.try(t, h, z.random(rnd, h), ctx)
		switch rnd.IntN(1000) {
		case 0:
			z.sweepAt(tables.Now()+rnd.Int64N(int64(200*time.Second)), time.Minute)
		case 1:
			v := randomVerdict(rnd, rnd.Uint32N(1000)+1)
			v.Until = tables.Now() + rnd.Int64N(int64(time.Second)) - int64(time.Second)/2
			z.d.SetVerdict(1+rnd.IntN(len(z.backends)), v)
		case 2:
			z.addsUp(t)
			if t.Failed() {
				t.FailNow()
			}
		}
	}
	z.addsUp(t)
	t.Logf("%d packets", n)
}

func FuzzFrames(f *testing.F) {
	z := newZoo(f)
	f.Cleanup(func() { z.t = f })
	seed := rand.New(rand.NewPCG(1, 2))
	for i := range 300 {
		f.Add(uint8(i), z.random(seed, z.hooks[i%len(z.hooks)]))
	}
	f.Fuzz(func(t *testing.T, which uint8, frame []byte) {
		// A page is all that BPF_PROG_TEST_RUN takes.
		if len(frame) < 14 || len(frame) > 3000 {
			return
		}
		z.t = t
		z.try(t, z.hooks[int(which)%len(z.hooks)], frame, skbContext{})
		z.addsUp(t)
	})
}
