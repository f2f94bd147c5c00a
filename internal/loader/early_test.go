package loader

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// What an XDP program returns.
const (
	xdpDrop = 1
	xdpPass = 2
	xdpTX   = 3
)

func (r *rig) wantCounted(want ...string) {
	r.t.Helper()
	m := map[string]uint64{}
	for _, k := range want {
		m[k]++
	}
	if diff := cmp.Diff(m, r.counted()); diff != "" {
		r.t.Errorf("packet counters (-want +got):\n%s", diff)
	}
}

func TestXDP(t *testing.T) {
	forced := ledger.Verdict{Kind: ledger.ForcedOpen, Generation: 1}
	inbound := func(how tables.Reject) tables.PolicySettings {
		return tables.PolicySettings{Direction: tables.Inbound, Reject: how, Protocol: tables.TCP}
	}
	r := newRig(t)
	prog := r.program("xdp")
	for _, tc := range []struct {
		name    string
		policy  tables.PolicySettings
		verdict ledger.Verdict
		change  func(s *segment)
		edit    func(frame []byte, ip, tcp int) []byte
		ret     int
		counter string
		prepare func(r *rig, f family)
	}{
		{name: "SYN, reset", policy: inbound(tables.Reset), verdict: forced, ret: xdpTX, counter: "reset forced-open"},
		{name: "SYN, drop", policy: inbound(tables.Drop), verdict: forced, ret: xdpDrop, counter: "drop forced-open"},
		{name: "SYN, open", policy: inbound(tables.Reset), verdict: openFor(time.Minute), ret: xdpTX, counter: "reset open"},
		{name: "SYN, half-open", policy: inbound(tables.Reset), verdict: halfOpen(1, 1), ret: xdpPass, counter: "pass flow"},
		{name: "SYN, closed", policy: inbound(tables.Reset), verdict: ledger.Verdict{Kind: ledger.Closed}, ret: xdpPass, counter: "pass flow"},
		{name: "SYN, monitored", policy: inbound(tables.Reset), verdict: ledger.Verdict{Kind: ledger.ForcedOpen, Monitor: true}, ret: xdpPass, counter: "pass flow"},
		{name: "SYN, no lease", policy: inbound(tables.Reset), verdict: forced, ret: xdpPass, counter: "pass flow",
			prepare: func(r *rig, _ family) { r.d.RenewLease(tables.Now()) }},
		{name: "SYN, respond is for TC", policy: tables.PolicySettings{Direction: tables.Inbound}, verdict: forced, ret: xdpPass, counter: "pass flow"},
		{name: "SYN, outbound policy", policy: tables.PolicySettings{Reject: tables.Reset}, verdict: forced, ret: xdpPass, counter: "pass foreign"},
		{name: "SYN, with options and ECN", policy: inbound(tables.Reset), verdict: forced, ret: xdpTX, counter: "reset forced-open",
			change: func(s *segment) { s.flags, s.options = syn|ece|cwr, append(mssOption(1460), timestamps(1, 0)...) }},
		{name: "SYN, TCP fast open", policy: inbound(tables.Reset), verdict: forced, ret: xdpTX, counter: "reset forced-open",
			change: func(s *segment) { s.payload = []byte(get) }},
		{name: "SYN, tagged", policy: inbound(tables.Reset), verdict: forced, ret: xdpTX, counter: "reset forced-open",
			change: func(s *segment) { s.vlans = []uint16{etherTypeVLAN} }},
		{name: "SYN, two tags", policy: inbound(tables.Reset), verdict: forced, ret: xdpPass, counter: "pass foreign",
			change: func(s *segment) { s.vlans = []uint16{0x88a8, etherTypeVLAN} }},
		{name: "SYN, padded", policy: inbound(tables.Reset), verdict: forced, ret: xdpTX, counter: "reset forced-open",
			change: func(s *segment) { s.trailer = 6 }},
		{name: "SYN, neither IPv4 nor IPv6", policy: inbound(tables.Reset), verdict: forced, ret: xdpPass, counter: "pass foreign",
			edit: func(frame []byte, ip, _ int) []byte { frame[ip] ^= 0x10; return frame }},
		{name: "ACK", policy: inbound(tables.Reset), verdict: forced, ret: xdpPass, counter: "pass untracked",
			change: func(s *segment) { s.flags = ack }},
		{name: "RST", policy: inbound(tables.Reset), verdict: forced, ret: xdpPass, counter: "pass untracked",
			change: func(s *segment) { s.flags = syn | rst }},
		{name: "SYN-ACK", policy: inbound(tables.Reset), verdict: forced, ret: xdpPass, counter: "pass untracked",
			change: func(s *segment) { s.flags = syn | ack }},
		{name: "other port", policy: inbound(tables.Reset), verdict: forced, ret: xdpPass, counter: "pass foreign",
			change: func(s *segment) { s.dst = netipPort(s.dst, 8081) }},
		{name: "other address", policy: inbound(tables.Reset), verdict: forced, ret: xdpPass, counter: "pass foreign",
			change: func(s *segment) { s.dst = netip.AddrPortFrom(s.src.Addr(), s.dst.Port()) }},
		{name: "SYN repeated of a connection that was let in", policy: inbound(tables.Reset), verdict: ledger.Verdict{Kind: ledger.Closed}, ret: xdpPass, counter: "pass flow",
			prepare: func(r *rig, f family) {
				c := r.dial(f.client, f.backend)
				c.ctx.IngressIfindex = uplinkIndex
				c.passed(c.send(syn, ""), "egress", "admitted")
				r.d.SetVerdict(1, forced)
			}},
		{name: "exempt client", policy: func() tables.PolicySettings {
			s := inbound(tables.Reset)
			s.ExemptSome = true
			return s
		}(), verdict: forced, ret: xdpPass, counter: "pass exempt", prepare: func(r *rig, f family) {
			if err := r.d.SetExemptSources(1, []netip.Prefix{netip.PrefixFrom(f.client.Addr(), f.client.Addr().BitLen())}); err != nil {
				r.t.Fatal(err)
			}
			r.t.Cleanup(func() { _ = r.d.SetExemptSources(1, nil) })
		}},
		{name: "no TCP header", policy: inbound(tables.Reset), verdict: forced, ret: xdpPass, counter: "pass short",
			edit: func(f []byte, _, tcp int) []byte { return f[:tcp+19] }},
		{name: "not TCP", policy: inbound(tables.Reset), verdict: forced, ret: xdpPass, counter: "pass foreign",
			edit: func(f []byte, ip, tcp int) []byte {
				if tcp-ip == 40 {
					f[ip+6] = 17
				} else {
					f[ip+9] = 17
				}
				return f
			}},
		{name: "TCP header below 5 words", policy: inbound(tables.Reset), verdict: forced, ret: xdpPass, counter: "pass short",
			edit: func(f []byte, _, tcp int) []byte { f[tcp+12] = 0x40; return f }},
		{name: "TCP header beyond the packet", policy: inbound(tables.Reset), verdict: forced, ret: xdpPass, counter: "pass short",
			edit: func(f []byte, _, tcp int) []byte { f[tcp+12] = 0xf0; return f }},
		{name: "longer by its header than the frame", policy: inbound(tables.Reset), verdict: forced, ret: xdpPass, counter: "pass short",
			edit: func(f []byte, ip, tcp int) []byte {
				at := ip + 2
				if tcp-ip == 40 {
					at = ip + 4
				}
				binary.BigEndian.PutUint16(f[at:], 1400)
				return f
			}},
		{name: "neither IPv4 nor IPv6", policy: inbound(tables.Reset), verdict: forced, ret: xdpPass, counter: "pass foreign",
			edit: func(f []byte, ip, _ int) []byte { f[ip-2], f[ip-1] = 8, 6; return f }},
	} {
		for _, f := range families {
			t.Run(tc.name+"/"+f.name, func(t *testing.T) {
				r := newRig(t)
				r.put(f.backend, tc.policy, tc.verdict)
				if tc.prepare != nil {
					tc.prepare(r, f)
				}
				r.counted()
				s := segment{src: f.client, dst: f.backend, seq: 1000, flags: syn, srcMAC: clientMAC, dstMAC: nodeMAC}
				if tc.change != nil {
					tc.change(&s)
				}
				frame := s.bytes()
				if tc.edit != nil {
					ip := 14 + 4*len(s.vlans)
					tcp := ip + 20
					if s.v6() {
						tcp = ip + 40
					}
					frame = tc.edit(frame, ip, tcp)
				}
				opts := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+256)}
				ret, err := prog.Run(&opts)
				if err != nil {
					t.Fatal(err)
				}
				if int(ret) != tc.ret {
					t.Errorf("verdict %d, expected %d", ret, tc.ret)
				}
				r.wantCounted("xdp " + tc.counter)
				if tc.ret != xdpTX {
					if !bytes.Equal(opts.DataOut, frame) {
						t.Error("the packet was changed")
					}
					return
				}
				got, err := parseSegment(opts.DataOut, false)
				if err != nil {
					t.Fatal(err)
				}
				if got.src != s.dst || got.dst != s.src || got.srcMAC != s.dstMAC || got.dstMAC != s.srcMAC || len(got.vlans) != len(s.vlans) {
					t.Errorf("the answer is %s", got)
				}
				if got.flags != rst|ack || got.seq != 0 || got.ack != 1001+uint32(len(s.payload)) || len(got.payload)+len(got.options) > 0 {
					t.Errorf("the answer is %s", got)
				}
			})
		}
	}
}

// lookupContext is struct bpf_sk_lookup as BPF_PROG_TEST_RUN takes it.
type lookupContext struct {
	Cookie     uint64
	Family     uint32
	Protocol   uint32
	RemoteIP4  [4]byte
	RemoteIP6  [16]byte
	RemotePort [2]byte
	_          uint16
	LocalIP4   [4]byte
	LocalIP6   [16]byte
	LocalPort  uint32
	_          uint32 // ingress_ifindex must be 0
	_          uint32
}

func TestLookup(t *testing.T) {
	const inet, inet6, tcp, udp = 2, 10, 6, 17
	r := newRig(t)
	prog := r.program("lookup")
	forced := ledger.Verdict{Kind: ledger.ForcedOpen, Generation: 1}
	for _, tc := range []struct {
		name     string
		policy   tables.PolicySettings
		verdict  ledger.Verdict
		port     uint16
		protocol uint32
		drop     bool
		counter  string
	}{
		{name: "rejected", policy: tables.PolicySettings{Reject: tables.Reset}, verdict: forced, drop: true, counter: "reset forced-open"},
		{name: "closed", policy: tables.PolicySettings{Reject: tables.Reset}, verdict: ledger.Verdict{Kind: ledger.Closed}, counter: "pass flow"},
		{name: "half-open", policy: tables.PolicySettings{Reject: tables.Reset}, verdict: halfOpen(1, 1), counter: "pass flow"},
		{name: "respond", policy: tables.PolicySettings{}, verdict: forced, counter: "pass untracked"},
		{name: "exempt clients", policy: tables.PolicySettings{Reject: tables.Reset, ExemptSome: true}, verdict: forced, counter: "pass untracked"},
		{name: "other port", policy: tables.PolicySettings{Reject: tables.Reset}, verdict: forced, port: 9, counter: "pass foreign"},
		{name: "UDP", policy: tables.PolicySettings{Reject: tables.Reset}, verdict: forced, protocol: udp},
	} {
		for _, f := range families {
			t.Run(tc.name+"/"+f.name, func(t *testing.T) {
				r := newRig(t)
				r.put(f.backend, tc.policy, tc.verdict)
				ctx := lookupContext{Family: inet, Protocol: tcp, LocalPort: uint32(f.backend.Port())}
				binary.BigEndian.PutUint16(ctx.RemotePort[:], f.client.Port())
				if f.name == "IPv6" {
					ctx.Family, ctx.LocalIP6, ctx.RemoteIP6 = inet6, f.backend.Addr().As16(), f.client.Addr().As16()
				} else {
					ctx.LocalIP4, ctx.RemoteIP4 = f.backend.Addr().As4(), f.client.Addr().As4()
				}
				if tc.port > 0 {
					ctx.LocalPort = uint32(tc.port)
				}
				if tc.protocol > 0 {
					ctx.Protocol = tc.protocol
				}
				ret, err := prog.Run(&ebpf.RunOptions{Context: ctx})
				if err != nil {
					t.Fatal(err)
				}
				if ret != map[bool]uint32{true: 0, false: 1}[tc.drop] {
					t.Errorf("returned %d, dropped should be %t", ret, tc.drop)
				}
				if tc.counter == "" {
					r.wantCounted()
				} else {
					r.wantCounted("lookup " + tc.counter)
				}
			})
		}
	}
}

func TestBackendsOfNetworksAreLearned(t *testing.T) {
	networks := []tables.Network{
		{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Port: 8080},
		{Prefix: netip.MustParsePrefix("2001:db8:2::/48"), Port: 8080},
		{Prefix: netip.MustParsePrefix("203.0.113.0/24"), Port: 8080, Direction: tables.Inbound},
	}
	r := newRig(t)
	if err := r.d.SetNetworks(networks); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.d.SetNetworks(nil); err != nil {
			t.Error(err)
		}
	})
	for _, tc := range []struct {
		backend string
		entered uint32
		flags   uint8
		learned bool
		dir     tables.Direction
	}{
		{"198.51.100.20:8080", 0, syn, true, tables.Outbound},
		{"198.51.100.20:8080", 0, syn, false, tables.Outbound}, // again, within a second
		{"198.51.100.21:8080", 0, ack, false, tables.Outbound},
		{"198.51.100.22:8081", 0, syn, false, tables.Outbound},
		{"198.51.101.20:8080", 0, syn, false, tables.Outbound},
		{"198.51.100.23:8080", uplinkIndex, syn, false, tables.Outbound},
		{"[2001:db8:2::20]:8080", 0, syn, true, tables.Outbound},
		{"[2001:db8:3::20]:8080", 0, syn, false, tables.Outbound},
		{"203.0.113.5:8080", 0, syn, false, tables.Outbound},
		{"203.0.113.6:8080", uplinkIndex, syn, true, tables.Inbound},
	} {
		t.Run(fmt.Sprintf("%s from %d flags %d", tc.backend, tc.entered, tc.flags), func(t *testing.T) {
			r := newRig(t)
			backend := netip.MustParseAddrPort(tc.backend)
			client := clientV4
			if backend.Addr().Is6() {
				client = clientV6
			}
			c := r.dial(client, backend)
			c.ctx.IngressIfindex = tc.entered
			c.passed(c.send(tc.flags, ""), "egress", "foreign")
			events := r.events()
			if !tc.learned {
				if len(events) > 0 {
					t.Errorf("events %+v", events)
				}
				return
			}
			if len(events) != 1 || events[0].Kind != ledger.EventLearn || events[0].Backend != backend || events[0].Inbound != (tc.dir == tables.Inbound) ||
				events[0].Circuit != -1 {
				t.Errorf("events %+v", events)
			}
		})
	}
}
