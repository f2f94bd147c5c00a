package loader

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// hookUnderTest is a program, and the direction in which it looks.
type hookUnderTest struct {
	name    string // as its counters are called
	prog    *ebpf.Program
	l3      bool
	sources bool // looks at where a packet comes from
	xdp     bool
}

func (r *rig) hooks() []hookUnderTest {
	o := &r.d.objs
	return []hookUnderTest{
		{"egress", o.Egress, false, false, false},
		{"egress", r.program("egress_l3"), true, false, false},
		{"ingress", o.Ingress, false, true, false},
		{"ingress", r.program("ingress_l3"), true, true, false},
		{"loopback", r.program("loopback"), false, false, false},
		{"loopback", r.program("loopback"), false, true, false},
	}
}

// Frames of L3 devices begin with the IP header, and BPF_PROG_TEST_RUN takes the EtherType from where an Ethernet header
// has it: from the middle of the source address. These addresses hold the right one there.
var familiesL3 = []family{
	{"IPv4", netip.MustParseAddrPort("8.0.2.10:40000"), netip.MustParseAddrPort("8.0.100.7:8080")},
	{"IPv6", netip.MustParseAddrPort("[2001:db8:86dd::10]:40000"), netip.MustParseAddrPort("[2001:db8:86dd::7]:8080")},
}

func TestPacketsThatAreNotUnderstoodPass(t *testing.T) {
	// at changes bytes at an offset from the IP header, or from the TCP header.
	const l4 = 1 << 16
	type edit struct {
		at int
		b  []byte
	}
	tag := func(s *segment) { s.vlans = []uint16{0x8100} }
	for _, c := range []struct {
		name   string
		v4, v6 bool
		change func(*segment)
		edit   *edit
		cut    int // bytes left from the IP header on, 0 = all
		reason string
		l2     bool // needs a link header
	}{
		{name: "good", v4: true, v6: true, reason: "good"},
		{name: "padded by Ethernet", v4: true, v6: true, change: func(s *segment) { s.trailer = 6 }, reason: "good"},
		{name: "VLAN tag in the frame", v4: true, v6: true, change: tag, reason: "good", l2: true},
		{name: "provider tag in the frame", v4: true, v6: true, change: func(s *segment) { s.vlans = []uint16{0x88a8} }, reason: "good", l2: true},
		{name: "two tags in the frame", v4: true, v6: true, change: func(s *segment) { s.vlans = []uint16{0x88a8, 0x8100} }, reason: "foreign", l2: true},
		// BPF_PROG_TEST_RUN itself refuses frames that end within the IP header, unless there is a tag before it.
		{name: "cut in the tag", v4: true, v6: true, change: tag, cut: -2, reason: "short", l2: true},
		{name: "nothing after the link header", v4: true, v6: true, change: tag, cut: -1, reason: "short", l2: true},
		{name: "cut in the IP header", v4: true, v6: true, change: tag, cut: 19, reason: "short", l2: true},
		{name: "cut in the IPv6 header", v6: true, change: tag, cut: 39, reason: "short", l2: true},
		{name: "cut before TCP", v4: true, cut: 20, reason: "short", l2: true},
		{name: "cut before TCP", v6: true, cut: 40, reason: "short", l2: true},
		{name: "cut in the TCP header", v4: true, cut: 39, reason: "short"},
		{name: "cut in the TCP header", v6: true, cut: 59, reason: "short"},
		{name: "cut in the TCP options", v4: true, cut: 42, reason: "short"},
		{name: "cut in the TCP options", v6: true, cut: 62, reason: "short"},
		{name: "another version", v4: true, edit: &edit{0, []byte{0x55}}, reason: "foreign"},
		{name: "another version", v6: true, edit: &edit{0, []byte{0x70}}, reason: "foreign"},
		{name: "header length below 5 words", v4: true, edit: &edit{0, []byte{0x44}}, reason: "short"},
		{name: "header length 0", v4: true, edit: &edit{0, []byte{0x40}}, reason: "short"},
		{name: "IP options", v4: true, change: func(s *segment) { s.ipOptions = []byte{1, 1, 1, 0} }, reason: "ip-options"},
		{name: "total length below the headers", v4: true, edit: &edit{2, []byte{0, 39}}, reason: "short"},
		{name: "total length beyond the frame", v4: true, edit: &edit{2, []byte{9, 0}}, reason: "short"},
		{name: "total length 0: as long as the frame", v4: true, edit: &edit{2, []byte{0, 0}}, reason: "good"},
		{name: "payload length below the header", v6: true, edit: &edit{4, []byte{0, 19}}, reason: "short"},
		{name: "payload length beyond the frame", v6: true, edit: &edit{4, []byte{9, 0}}, reason: "short"},
		{name: "payload length 0: as long as the frame", v6: true, edit: &edit{4, []byte{0, 0}}, reason: "good"},
		{name: "first fragment", v4: true, change: func(s *segment) { s.fragment = 0x2000 }, reason: "fragment"},
		{name: "last fragment", v4: true, change: func(s *segment) { s.fragment = 7 }, reason: "fragment"},
		{name: "don't fragment", v4: true, change: func(s *segment) { s.fragment = 0x4000 }, reason: "good"},
		{name: "fragment header", v6: true, edit: &edit{6, []byte{44}}, reason: "fragment"},
		{name: "hop-by-hop options", v6: true, edit: &edit{6, []byte{0}}, reason: "extension-header"},
		{name: "routing header", v6: true, edit: &edit{6, []byte{43}}, reason: "extension-header"},
		{name: "destination options", v6: true, edit: &edit{6, []byte{60}}, reason: "extension-header"},
		{name: "authentication header", v6: true, edit: &edit{6, []byte{51}}, reason: "extension-header"},
		{name: "UDP", v4: true, edit: &edit{9, []byte{17}}, reason: "foreign"},
		{name: "UDP", v6: true, edit: &edit{6, []byte{17}}, reason: "foreign"},
		{name: "ESP", v4: true, edit: &edit{9, []byte{50}}, reason: "foreign"},
		{name: "TCP header below 5 words", v4: true, v6: true, edit: &edit{l4 + 12, []byte{0x40}}, reason: "short"},
		{name: "TCP header longer than the packet", v4: true, v6: true, edit: &edit{l4 + 12, []byte{0xf0}}, reason: "short"},
		{name: "other port", v4: true, v6: true, edit: &edit{l4, []byte{0x9c, 0x41, 0x1f, 0x91}}, reason: "foreign"},
		{name: "other address", v4: true, edit: &edit{12, []byte{8, 0, 0, 1, 8, 0, 0, 2}}, reason: "unknown"},
		{name: "ARP", v4: true, edit: &edit{-2, []byte{8, 6}}, reason: "foreign", l2: true},
		{name: "802.3 length in place of a type", v4: true, edit: &edit{-2, []byte{0, 46}}, reason: "foreign", l2: true},
	} {
		r := newRig(t)
		for _, h := range r.hooks() {
			fams := families
			if h.l3 {
				fams = familiesL3
				if c.l2 {
					continue
				}
			}
			for _, f := range fams {
				if f.name == "IPv4" && !c.v4 || f.name == "IPv6" && !c.v6 {
					continue
				}
				name := fmt.Sprintf("%s/%s/%s/l3=%t/sources=%t", c.name, f.name, h.name, h.l3, h.sources)
				t.Run(name, func(t *testing.T) {
					r := newRig(t)
					r.put(f.backend, tables.PolicySettings{Existing: true}, ledger.Verdict{Kind: ledger.Closed})
					s := segment{src: f.client, dst: f.backend, seq: 1, flags: syn, options: mssOption(1460), l3: h.l3}
					if h.sources {
						s.src, s.dst, s.flags = s.dst, s.src, syn|ack
					}
					if c.change != nil {
						c.change(&s)
					}
					frame := s.bytes()
					ip := 14
					if h.l3 {
						ip = 0
					}
					ip += 4 * len(s.vlans)
					if c.edit != nil {
						at := ip + c.edit.at
						if c.edit.at >= l4 {
							at = ip + 20 + c.edit.at - l4
							if s.v6() {
								at += 20
							}
						}
						copy(frame[at:], c.edit.b)
					}
					switch {
					case c.cut < 0:
						frame = frame[:ip+1+c.cut]
					case c.cut > 0:
						frame = frame[:ip+c.cut]
					}
					ret, out, err := r.run(h.prog, frame, skbContext{})
					if err != nil {
						t.Fatal(err)
					}
					reason := c.reason
					switch {
					case reason == "good" && h.sources:
						reason = "untracked"
					case reason == "good":
						reason = "admitted"
					case reason == "unknown" && h.sources:
						reason = "untracked"
					case reason == "unknown":
						reason = "foreign"
					}
					if ret != verdictNext {
						t.Errorf("verdict %d, expected %d", ret, verdictNext)
					}
					if !slices.Equal(out, frame) {
						t.Error("the packet was changed")
					}
					c := &conn{r: r}
					c.did(result{verdict: ret, counted: r.counted()}, verdictNext, h.name+" pass "+reason)
					var w want
					if reason == "admitted" {
						w.Connections = 1
					}
					r.wantTotals(w)
				})
			}
		}
	}
}

func TestPortsWithoutBackendsAreLeftAfterOneLookup(t *testing.T) {
	r := newRig(t)
	r.put(backendV4, tables.PolicySettings{}, ledger.Verdict{Kind: ledger.ForcedOpen})
	ports := node(t, r.d).Ports
	for port := range 1 << 16 {
		word := ports[port/64]
		if watched := word&(1<<(port%64)) != 0; watched != (port == int(backendV4.Port())) {
			t.Fatalf("port %d: watched is %t", port, watched)
		}
	}
	if err := r.d.RemoveBackend(tables.Backend{Addr: backendV4}); err != nil {
		t.Fatal(err)
	}
	if word := node(t, r.d).Ports[backendV4.Port()/64]; word != 0 {
		t.Fatalf("a port is still watched: %#x", word)
	}
	c := r.dial(clientV4, backendV4)
	c.passed(c.send(syn, ""), "egress", "foreign")
}
