package loader

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// shuffled cuts at random, sends some segments twice, and lets each overtake a few others.
func shuffled(rnd *rand.Rand) carriage {
	return func(n int) []span {
		var all []span
		for from := 0; from < n; {
			to := min(n, from+1+rnd.IntN(1+rnd.IntN(300)))
			all = append(all, span{from, to})
			if rnd.IntN(10) == 0 {
				all = append(all, span{max(0, from-rnd.IntN(100)), to})
			}
			from = to
		}
		for block := range slices.Chunk(all, 8) {
			if rnd.IntN(2) == 0 {
				rnd.Shuffle(len(block), func(i, j int) { block[i], block[j] = block[j], block[i] })
			}
		}
		return all
	}
}

// session is a connection with random calls, and what they come to.
type session struct {
	*h2
	rnd     *rand.Rand
	next    uint32
	pending map[uint32]bool // streams without response headers; true: a gRPC call
	begun   map[uint32]bool // streams whose response has begun
	want    map[string]uint64
	calls   uint64
}

func (s *session) ends(stream uint32, class string) {
	delete(s.pending, stream)
	delete(s.begun, stream)
	s.want[class]++
}

// ask writes new calls, and cancels some.
func (s *session) ask() {
	for range s.rnd.IntN(6) {
		stream := s.next
		s.next += 2 + 2*uint32(s.rnd.IntN(2))
		s.calls++
		grpc := s.rnd.IntN(2) == 0
		s.pending[stream] = grpc
		if grpc {
			s.client.call(stream)
		} else {
			s.client.headers(stream, false, ":method", "POST", ":path", "/"+strconv.Itoa(s.rnd.IntN(50)), "x-id", strconv.Itoa(s.rnd.Int()))
			s.client.data(stream, false, string(make([]byte, s.rnd.IntN(300)))).headers(stream, true, "checksum", "77")
		}
		if s.rnd.IntN(8) == 0 {
			s.client.reset(stream, http2.ErrCodeCancel)
			s.ends(stream, "aborted")
		}
	}
	for stream := range s.begun {
		if s.rnd.IntN(6) == 0 {
			s.client.reset(stream, http2.ErrCodeCancel)
			s.ends(stream, "aborted")
		}
	}
	s.asks(s.client)
}

// answer writes responses, or parts of them.
func (s *session) answer() {
	id := func() string { return strconv.Itoa(s.rnd.Int()) }
	for stream, grpc := range s.pending {
		switch s.rnd.IntN(6) {
		case 0:
			code := []http2.ErrCode{http2.ErrCodeRefusedStream, http2.ErrCodeInternal}[s.rnd.IntN(2)]
			s.backend.reset(stream, code)
			s.ends(stream, map[http2.ErrCode]string{
				http2.ErrCodeRefusedStream: "h2-refused", http2.ErrCodeInternal: "h2-reset",
			}[code])
		case 1:
			s.backend.headers(stream, false, ":status", "103", "x-id", id())
		case 2, 3:
			if grpc && s.rnd.IntN(3) > 0 {
				s.backend.headers(stream, false, ":status", "200", "content-type", "application/grpc", "x-id", id())
				delete(s.pending, stream)
				s.begun[stream] = true
				continue
			}
			// Few enough for the walk to remember: others would be unknown.
			status := []int{200, 204, 302, 404, 429, 500, 503}[s.rnd.IntN(7)]
			s.backend.headers(stream, false, ":status", strconv.Itoa(status), "content-type", "text/html", "x-id", id()).
				data(stream, true, string(make([]byte, s.rnd.IntN(500))))
			s.ends(stream, fmt.Sprintf("%dxx", status/100))
		}
	}
	for stream := range s.begun {
		code := s.rnd.IntN(breaker.GRPCCodes)
		switch s.rnd.IntN(3) {
		case 0:
			s.backend.data(stream, false, string(make([]byte, s.rnd.IntN(500))))
		case 1:
			s.backend.headers(stream, true, "grpc-status", strconv.Itoa(code), "x-id", id())
			s.ends(stream, breaker.ResultGRPC(code).String())
		}
	}
	s.answers(s.backend)
}

// Random calls whose segments are cut, repeated and reordered at random: all outcomes are exact.
func TestRandomHTTP2Sessions(t *testing.T) {
	newRig(t) // loads the programs
	rnd := seeded(t)
	deadline := time.Now().Add(2 * time.Second)
	n := 0
	for ; time.Now().Before(deadline) && !t.Failed(); n++ {
		r := newRig(t)
		r.put(backendV4, http2Policy(), ledger.Verdict{})
		s := session{
			h2: r.dial(netipPort(clientV4, uint16(1024+n)), backendV4).openHTTP2(shuffled(rnd)), rnd: rnd, next: 1,
			pending: map[uint32]bool{}, begun: map[uint32]bool{}, want: map[string]uint64{},
		}
		for range 1 + rnd.IntN(20) {
			s.ask()
			s.answer()
			if rnd.IntN(10) == 0 {
				s.sweep()
			}
		}
		open := uint64(len(s.pending) + len(s.begun))
		switch rnd.IntN(3) {
		case 0:
			s.clientRST()
			s.want["aborted"] += open
		case 1:
			s.backendFIN()
			s.want["reset"] += open
			s.sweep()
			s.clientFIN()
			s.arrive(s.fromBackend(ack, "")) // it ends the connection if the FIN came ahead of a gap
		case 2:
			s.backendRST()
			s.want["reset"] += open
		}
		s.sweep()
		maps.DeleteFunc(s.want, func(_ string, n uint64) bool { return n == 0 })
		got := r.totals(1)
		if !maps.Equal(got.Outcomes, s.want) || got.Admitted != s.calls || got.InFlight != 0 || got.Connections != 0 {
			t.Errorf("%d calls came to %v; the programs saw %+v", s.calls, s.want, got)
		}
		r.forgotten()
	}
	t.Logf("%d connections", n)
}

// randomFrames makes frames that mean something, most of them.
func randomFrames(rnd *rand.Rand, p *peer, client bool) string {
	for range 1 + rnd.IntN(4) {
		stream := uint32(1 + rnd.IntN(30))
		switch rnd.IntN(10) {
		case 0:
			must(p.framer.WriteSettings())
		case 1:
			p.reset(stream, http2.ErrCode(rnd.IntN(10)))
		case 2:
			must(p.framer.WriteGoAway(uint32(rnd.IntN(40)), http2.ErrCodeNo, nil))
		case 3:
			must(p.framer.WriteRawFrame(http2.FrameType(rnd.IntN(12)), http2.Flags(rnd.Uint32()), stream, make([]byte, rnd.IntN(40))))
		case 4:
			must(p.framer.WritePing(rnd.IntN(2) == 0, [8]byte{}))
		case 5:
			p.data(stream, rnd.IntN(2) == 0, string(make([]byte, rnd.IntN(100))))
		case 6:
			p.reply(stream, strconv.Itoa(rnd.IntN(20)))
		default:
			if client {
				p.get(stream)
			} else {
				p.headers(stream, rnd.IntN(2) == 0, ":status", strconv.Itoa(100+rnd.IntN(500)))
			}
		}
	}
	all := []byte(p.take())
	switch rnd.IntN(10) {
	case 0:
		all[rnd.IntN(len(all))] ^= byte(1 + rnd.IntN(255))
	case 1:
		all = all[:rnd.IntN(len(all))]
	case 2:
		all = all[rnd.IntN(len(all)):]
	}
	return string(all[:min(len(all), 1400)])
}

// talk is a connection of random frames.
type talk struct {
	client, backend netip.AddrPort
	seq, ack        uint32
	from, to        *peer
}

// Random frames, garbage, and segments in any order, at every hook and with every kind of circuit: each packet gets one
// verdict, counts add up, and nothing is left when all is over.
func TestRandomHTTP2Frames(t *testing.T) {
	z, rnd := newZoo(t), seeded(t)
	var talks []*talk
	for i, backend := range z.backends {
		for j := range 3 {
			client := netip.AddrPortFrom(clientV4.Addr(), uint16(41000+3*i+j))
			if backend.Addr().Is6() {
				client = netip.AddrPortFrom(clientV6.Addr(), client.Port())
			}
			talks = append(talks, &talk{client: client, backend: backend})
		}
	}
	put := func(k *talk, fromClient bool, flags uint8, data string) {
		h := z.hooks[rnd.IntN(len(z.hooks))]
		s := segment{
			src: k.client, dst: k.backend, seq: k.seq, ack: k.ack, flags: flags, payload: []byte(data), l3: h.l3,
			srcMAC: clientMAC, dstMAC: nodeMAC,
		}
		if !fromClient {
			s.src, s.dst, s.seq, s.ack = s.dst, s.src, s.ack, s.seq
		}
		move := uint32(len(data))
		switch rnd.IntN(20) {
		case 0:
			s.seq += uint32(rnd.IntN(200))
		case 1:
			s.seq -= uint32(rnd.IntN(200))
		case 2:
			s.ack += uint32(rnd.IntN(400)) - 200
		case 3:
			return // it never arrives
		}
		if flags&(syn|fin) != 0 {
			move++
		}
		if fromClient {
			k.seq += move
		} else {
			k.ack += move
		}
		z.try(t, h, s.bytes(), skbContext{})
	}
	deadline := time.Now().Add(2 * time.Second)
	n := 0
	for ; time.Now().Before(deadline) && n < 40000; n++ {
		k := talks[rnd.IntN(len(talks))]
		switch {
		case k.from == nil:
			k.from, k.to, k.seq, k.ack = newPeer(), newPeer(), rnd.Uint32(), rnd.Uint32()
			put(k, true, syn, "")
			put(k, false, syn|ack, "")
			put(k, true, ack, "")
			must(k.from.framer.WriteSettings())
			put(k, true, psh|ack, http2.ClientPreface+k.from.take())
		case rnd.IntN(100) == 0:
			put(k, rnd.IntN(2) == 0, []uint8{fin | ack, rst, rst | ack}[rnd.IntN(3)], "")
			k.from = nil
		case rnd.IntN(2) == 0:
			put(k, true, psh|ack, randomFrames(rnd, k.from, true))
		default:
			put(k, false, psh|ack, randomFrames(rnd, k.to, false))
		}
		switch rnd.IntN(2000) {
		case 0:
			z.sweepAt(tables.Now()+rnd.Int64N(int64(3*time.Second)), time.Minute)
		case 1:
			v := randomVerdict(rnd, rnd.Uint32N(1000)+1)
			v.Until = tables.Now() + rnd.Int64N(int64(time.Second)) - int64(time.Second)/2
			z.d.SetVerdict(1+rnd.IntN(len(z.backends)), v)
		case 2:
			z.addsUp(t)
			z.streamsAddUp(t)
			if t.Failed() {
				t.FailNow()
			}
		}
	}
	t.Logf("%d packets, %d streams", n, len(z.streams()))
	z.addsUp(t)
	z.streamsAddUp(t)
	// All connections are idle, then their streams are over.
	for range 3 {
		z.sweepAt(tables.Now()+int64(time.Hour), time.Minute)
	}
	z.streamsAddUp(t)
	if n := len(z.streams()); n > 0 || z.d.NodeCounts().Flows > 0 {
		t.Errorf("%d streams and %d connections are left", n, z.d.NodeCounts().Flows)
	}
	for i := range z.backends {
		if n := z.d.Totals(i + 1).InFlight; n != 0 {
			t.Errorf("circuit %d: %d requests are in flight", i+1, n)
		}
	}
}

// streamsAddUp compares the counts of the connections with their streams.
func (z *zoo) streamsAddUp(t *testing.T) {
	t.Helper()
	streams := map[uint64]uint32{}
	for key := range z.rig.streams() {
		streams[key.Connection]++
	}
	var key uint64
	var c bpf.CHttp2Connection
	var all uint64
	it := z.d.objs.Http2Connections.Iterate()
	for it.Next(&key, &c) {
		all++
		if c.Streams != streams[key] {
			t.Errorf("a connection counts %d streams, it has %d", c.Streams, streams[key])
		}
		delete(streams, key)
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	if n := node(t, z.d).Http2Count; n != all || len(streams) > 0 {
		t.Errorf("%d connections are counted, there are %d; %d others have streams", n, all, len(streams))
	}
}
