package kernel

import (
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/cbagent/cbagent/internal/answer"
	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/loader"
	"github.com/cbagent/cbagent/internal/tables"
)

// Circuits, by what they do.
const (
	closed = iota + 1
	responds
	resets
	drops
)

// nextISN is how much a client's initial sequence number grows from one connection to the next. The kernel's answer to the
// SYN has a number that depends on the bits below, and so stays the same.
const nextISN = 1 << 14

var mss = []byte{2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7}

// site is a datapath with a backend for each circuit.
type site struct {
	b        *testing.B
	d        *loader.Datapath
	programs map[string]*ebpf.Program
	port     uint16 // of the last client that nextClient returned
}

// common is the site of all benchmarks: they are called again and again, and loading takes its time. It ends with the
// process.
var common *site

// family is what differs between IPv4 and IPv6.
type family struct {
	name    string
	client  netip.AddrPort
	backend netip.AddrPort // of the circuit closed; the others' addresses follow
}

var families = []family{
	{"IPv4", netip.MustParseAddrPort("192.0.2.10:40000"), netip.MustParseAddrPort("198.51.100.1:8080")},
	{"IPv6", netip.MustParseAddrPort("[2001:db8:1::10]:40000"), netip.MustParseAddrPort("[2001:db8:2::1]:8080")},
}

func (f family) of(circuit int) netip.AddrPort {
	a := f.backend.Addr()
	for range circuit - closed {
		a = a.Next()
	}
	return netip.AddrPortFrom(a, f.backend.Port())
}

func newSite(b *testing.B) *site {
	b.Helper()
	if common != nil {
		common.b = b
		return common
	}
	s := &site{b: b, programs: map[string]*ebpf.Program{}}
	var err error
	if s.d, err = loader.Load(loader.Options{Circuits: 64, Policies: 64, Answers: 64, Flows: 65536}); err != nil {
		b.Fatalf("%+v", err)
	}
	s.d.RenewLease(tables.Now() + int64(time.Hour))
	a := answer.Render(answer.Spec{
		Status: 503, ContentType: "application/json", Body: `{"error":"circuit open"}`,
	}, answer.ReasonOpen, true)
	if err := s.d.PutAnswer(0, tables.Answer{Bytes: a.Bytes, HeadLen: a.HeadLen, RetryAt: a.RetryAt, RetryPad: a.RetryPad, Status: 503}); err != nil {
		b.Fatal(err)
	}
	open := ledger.Verdict{Kind: ledger.Open, Generation: 1, Until: tables.Now() + int64(time.Hour)}
	for circuit, c := range map[int]struct {
		reject  tables.Reject
		verdict ledger.Verdict
	}{
		closed:   {tables.Respond, ledger.Verdict{Kind: ledger.Closed, Generation: 1}},
		responds: {tables.Respond, open},
		resets:   {tables.Reset, open},
		drops:    {tables.Drop, open},
	} {
		if err := s.d.PutPolicy(circuit, tables.PolicySettings{Reject: c.reject, Existing: true, Timeout: time.Minute}); err != nil {
			b.Fatal(err)
		}
		s.d.SetPolicy(circuit, circuit)
		s.d.SetVerdict(circuit, c.verdict)
		for _, f := range families {
			for _, dir := range []tables.Direction{tables.Outbound, tables.Inbound} {
				if err := s.d.PutBackend(tables.Backend{Addr: f.of(circuit), Direction: dir}, circuit, 0); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	common = s
	return s
}

// nextClient returns a client of the family that has no connection yet.
func (s *site) nextClient(f family) netip.AddrPort {
	s.port++
	return netip.AddrPortFrom(f.client.Addr(), 50000+s.port)
}

// program returns a program by its name; "empty" and "empty xdp" do nothing, "reference" looks up the packet's flow.
func (s *site) program(name string) *ebpf.Program {
	s.b.Helper()
	if p, ok := s.programs[name]; ok {
		return p
	}
	var p *ebpf.Program
	var err error
	switch name {
	case "empty":
		p, err = nothing(ebpf.SchedCLS, -1)
	case "empty xdp":
		p, err = nothing(ebpf.XDP, 2)
	case "reference":
		p, err = newReference()
	default:
		p, err = s.d.Program(name)
	}
	if err != nil {
		s.b.Fatal(err)
	}
	s.programs[name] = p
	return p
}

// nothing is a program that returns at once.
func nothing(kind ebpf.ProgramType, verdict int32) (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: kind, License: "MIT", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()},
	})
}

// put runs a program once and returns what it said and what the packet is then.
func (s *site) put(name string, f []byte) (uint32, []byte) {
	s.b.Helper()
	opts := ebpf.RunOptions{Data: f, DataOut: make([]byte, len(f)+2048)}
	ret, err := s.program(name).Run(&opts)
	if err != nil {
		s.b.Fatal(err)
	}
	return ret, opts.DataOut
}

// played returns the ns that a scene takes, whose packets are changed or change what is remembered.
func (s *site) played(scene []step, v6 bool, n int) float64 {
	s.b.Helper()
	seqAt := 14 + 20 + 4
	if v6 {
		seqAt += 20
	}
	nothing := make([]step, len(scene))
	for i, st := range scene {
		nothing[i] = st
		nothing[i].program = "empty"
	}
	n = max(n/len(scene), 1000) * len(scene)
	var took [2]time.Duration
	for i, sc := range [][]step{scene, nothing} {
		var err error
		if _, took[i], err = newPlayer(s.b, sc, seqAt, s.program).prog.Benchmark(scene[0].frame, n, nil); err != nil {
			s.b.Fatal(err)
		}
	}
	return float64(took[0]-took[1]) * float64(len(scene))
}

// BenchmarkPacket is one packet of a kind. Those measured by the same packet again and again are as fast as they can be.
func BenchmarkPacket(b *testing.B) {
	type repeated struct {
		name, program string
		want          uint32
		frame         []byte
		before        func(s *site)
	}
	const next = ^uint32(0)
	for _, f := range families {
		backend, client := f.of(closed), f.client
		otherPort := netip.AddrPortFrom(backend.Addr(), 9)
		otherAddr := netip.AddrPortFrom(client.Addr(), backend.Port())
		v6 := f.name == "IPv6"
		connectFrom := func(s *site, client netip.AddrPort) {
			s.put("egress", frame(client, backend, syn, 1, 0, mss, ""))
			s.put("ingress", frame(backend, client, syn|ack, 5000, 2, mss, ""))
		}
		connect := func(s *site) { connectFrom(s, client) }
		udp := frame(client, backend, ack, 2, 5001, nil, "")
		if v6 {
			udp[14+6] = 17
		} else {
			udp[14+9] = 17
		}
		for _, r := range []repeated{
			{"empty", "empty", next, frame(client, otherPort, ack, 2, 5001, nil, ""), nil},
			{"empty xdp", "empty xdp", 2, frame(client, otherPort, ack, 2, 5001, nil, ""), nil},
			{"reference", "reference", next, frame(client, backend, ack, 2, 5001, nil, ""), nil},
			{"UDP", "egress", next, udp, nil},
			{"port not watched", "egress", next, frame(client, otherPort, ack, 2, 5001, nil, ""), nil},
			{"port not watched, ingress", "ingress", next, frame(otherPort, client, ack, 2, 5001, nil, ""), nil},
			{"port not watched, xdp", "xdp", 2, frame(client, otherPort, syn, 2, 5001, nil, ""), nil},
			{"port watched, other backend, ACK", "egress", next, frame(client, otherAddr, ack, 2, 5001, nil, ""), nil},
			{"port watched, other backend, ACK, ingress", "ingress", next, frame(otherAddr, client, ack, 2, 5001, nil, ""), nil},
			{"watched, pure ACK", "egress", next, frame(client, backend, ack, 2, 5001, nil, ""), connect},
			{"watched, pure ACK, ingress", "ingress", next, frame(backend, client, ack, 5001, 2, nil, ""), connect},
			{"watched, data from the backend", "ingress", next, frame(backend, client, ack, 5001, 2, nil, "more of a body"), connect},
			{"watched, SYN repeated", "egress", next, frame(client, backend, syn, 1, 0, mss, ""), connect},
			{"ejected, SYN dropped", "egress", 2, frame(client, f.of(drops), syn, 1, 0, mss, ""), nil},
			{"ejected, SYN dropped, xdp", "xdp", 1, frame(client, f.of(drops), syn, 1, 0, mss, ""), nil},
		} {
			b.Run(r.name+"/"+f.name, func(b *testing.B) {
				s := newSite(b)
				if r.before != nil {
					r.before(s)
				}
				if ret, _ := s.put(r.program, r.frame); ret != r.want {
					b.Fatalf("verdict %d, expected %d", int32(ret), int32(r.want))
				}
				_, d, err := s.program(r.program).Benchmark(r.frame, max(b.N, 1000), nil)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(d.Nanoseconds()), "ns/op")
			})
		}

		const get = "GET /orders HTTP/1.1\r\nHost: orders.example.com\r\nUser-Agent: bench\r\n\r\n"
		const ok = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
		asked, answered := uint32(len(get)), uint32(len(ok))
		for _, scene := range []struct {
			name  string
			steps func(s *site) []step
			shows func(s *site) uint64 // a count that the scene changes
		}{
			{"ejected, SYN reset", func(*site) []step {
				return []step{{"egress", frame(client, f.of(resets), syn, 1, 0, mss, ""), 0, 0, nil}}
			}, func(s *site) uint64 { return s.rejected(resets, 1) }},
			{"ejected, SYN answered", func(*site) []step {
				return []step{{"egress", frame(client, f.of(responds), syn, 1, 0, mss, ""), 0, 0, nil}}
			}, func(s *site) uint64 { return s.packets("egress respond open") }},
			{"ejected, connection answered: SYN, ACK, request, ACK, FIN", func(s *site) []step {
				_, synAck := s.put("egress", frame(client, f.of(responds), syn, 1, 0, mss, ""))
				us := ackOf(synAck, v6)
				var steps []step
				for _, f := range [][]byte{
					frame(client, f.of(responds), syn, 1, 0, mss, ""),
					frame(client, f.of(responds), ack, 2, us, nil, ""),
					frame(client, f.of(responds), psh|ack, 2, us, nil, get),
					frame(client, f.of(responds), ack, 2+asked, us+1000, nil, ""),
					frame(client, f.of(responds), fin|ack, 2+asked, us+1000, nil, ""),
				} {
					steps = append(steps, step{"egress", f, nextISN, 0, nil})
				}
				return steps
			}, func(s *site) uint64 { return s.rejected(responds, 0) }},
			{"watched, connection: SYN and RST", func(*site) []step {
				return []step{
					{"egress", frame(client, backend, syn, 1, 0, mss, ""), 0, 0, nil},
					{"egress", frame(client, backend, rst, 2, 0, nil, ""), 0, 0, nil},
				}
			}, func(s *site) uint64 { return s.outcomes(closed, int(breaker.ResultUnknown)) }},
			{"watched, request and response", func(s *site) []step {
				client := s.nextClient(f)
				connectFrom(s, client)
				return []step{
					{"egress", frame(client, backend, psh|ack, 2, 5001, nil, get), asked, answered, nil},
					{"ingress", frame(backend, client, psh|ack, 5001, 2+asked, nil, ok), answered, asked, nil},
				}
			}, func(s *site) uint64 { return s.outcomes(closed, tables.OutcomeClass(200)) }},
			{"watched, request and response in HTTP2", func(s *site) []step {
				return s.connectHTTP2(f, s.nextClient(f), get2, ok2)
			}, func(s *site) uint64 { return s.outcomes(closed, tables.OutcomeClass(200)) }},
			{"watched, gRPC call", func(s *site) []step {
				return s.connectHTTP2(f, s.nextClient(f), call, reply)
			}, func(s *site) uint64 { return s.outcomes(closed, tables.OutcomeClass(breaker.ResultGRPC(0))) }},
		} {
			b.Run(scene.name+"/"+f.name, func(b *testing.B) {
				s := newSite(b)
				before := scene.shows(s)
				steps := scene.steps(s)
				b.ReportMetric(s.played(steps, v6, b.N), "ns/op")
				// The first showing may find what was before.
				if gained := int(scene.shows(s) - before); gained < max(b.N/len(steps), 1000)-1 {
					b.Errorf("only %d of the packets were what they should be", gained)
				}
			})
		}
	}
}

// rejected returns how many clients a circuit has rejected in a way.
func (s *site) rejected(circuit, how int) uint64 {
	return s.d.Totals(circuit).Rejected[tables.RejectedOpen][how]
}

// outcomes returns how many outcomes of a class a circuit has.
func (s *site) outcomes(circuit, class int) uint64 { return s.d.Totals(circuit).Outcomes[class] }

// packets returns one of the counters of packets.
func (s *site) packets(counter string) uint64 {
	s.b.Helper()
	all, err := s.d.Packets()
	if err != nil {
		s.b.Fatal(err)
	}
	for _, c := range all {
		if c.Hook+" "+c.Action+" "+c.Reason == counter {
			return c.Packets
		}
	}
	return 0
}

// BenchmarkVerifier is what loading a program costs: how many instructions the verifier looked at, how long the program
// is as machine code, and how long loading takes.
func BenchmarkVerifier(b *testing.B) {
	for _, name := range []string{
		"egress", "egress_l3", "ingress", "ingress_l3", "loopback", "http2_client", "http2_backend", "http2_kept", "http2_reject", "sweep", "xdp", "connect4", "connect6", "lookup",
	} {
		b.Run(name, func(b *testing.B) {
			s := newSite(b)
			for b.Loop() {
				p, err := s.d.Program(name)
				if err != nil {
					b.Fatal(err)
				}
				info, err := p.Info()
				if err != nil {
					b.Fatal(err)
				}
				if n, ok := info.VerifiedInstructions(); ok {
					b.ReportMetric(float64(n), "insns")
				}
				if n, err := info.JitedSize(); err == nil {
					b.ReportMetric(float64(n), "jited-bytes")
				}
				if err := p.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
