package loader

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// Types of "destination unreachable".
const (
	unreachableV4 = 3
	unreachableV6 = 1
)

// icmpError is an ICMP or ICMPv6 error about a packet.
type icmpError struct {
	kind, code byte
	about      segment
	quotes     int  // bytes of the packet's TCP header
	trailer    bool // the Ethernet padding of a short frame
	edit       func(outer, quoted []byte)
}

// bytes renders the error as the backend's router sends it to the client, in the wrappings of the packet that it is about.
func (e icmpError) bytes(l3 bool, vlans []uint16) []byte {
	e.about.l3, e.about.vlans = true, nil
	quoted := e.about.bytes()
	head := 20 + len(e.about.ipOptions)
	if e.about.v6() {
		head = 40
	}
	quoted = quoted[:head+e.quotes]
	message := append([]byte{e.kind, e.code, 0, 0, 0, 0, 0, 0}, quoted...)
	binary.BigEndian.PutUint16(message[2:], ^sum(message))

	var frame []byte
	if !l3 {
		frame = append(append(frame, nodeMAC[:]...), clientMAC[:]...)
		for _, tag := range vlans {
			frame = binary.BigEndian.AppendUint16(frame, tag)
			frame = binary.BigEndian.AppendUint16(frame, 7)
		}
	}
	var outer []byte
	if e.about.v6() {
		if !l3 {
			frame = binary.BigEndian.AppendUint16(frame, etherTypeIPv6)
		}
		router := e.about.dst.Addr().Prev()
		outer = append(outer, 0x60, 0, 0, 0)
		outer = binary.BigEndian.AppendUint16(outer, uint16(len(message)))
		outer = append(outer, 58, 63)
		outer = append(append(outer, router.AsSlice()...), e.about.src.Addr().AsSlice()...)
	} else {
		if !l3 {
			frame = binary.BigEndian.AppendUint16(frame, etherTypeIPv4)
		}
		router := e.about.dst.Addr().Prev()
		outer = make([]byte, 20)
		outer[0], outer[8], outer[9] = 0x45, 63, 1
		binary.BigEndian.PutUint16(outer[2:], uint16(20+len(message)))
		copy(outer[12:], router.AsSlice())
		copy(outer[16:], e.about.src.Addr().AsSlice())
		binary.BigEndian.PutUint16(outer[10:], ^sum(outer))
	}
	if e.edit != nil {
		e.edit(outer, message[8:])
	}
	frame = append(append(frame, outer...), message...)
	if e.trailer {
		frame = append(frame, make([]byte, 6)...)
	}
	return frame
}

// comeBack runs the program for packets from the backend on an error. It must pass the error unchanged.
func (c *conn) comeBack(e icmpError, reason string) {
	c.r.t.Helper()
	frame := e.bytes(c.l3, c.vlans)
	verdict, out, err := c.r.run(c.in, frame, skbContext{})
	if err != nil {
		c.r.t.Fatal(err)
	}
	if verdict != verdictNext || string(out) != string(frame) {
		c.r.t.Errorf("verdict %d, changed: %t; expected %d, false", verdict, string(out) != string(frame), verdictNext)
	}
	if diff := cmp.Diff(map[string]uint64{c.hookIn + " pass " + reason: 1}, c.r.counted()); diff != "" {
		c.r.t.Errorf("packet counters (-want +got):\n%s", diff)
	}
}

var unreachableSettings = tables.PolicySettings{Timeout: 30 * time.Second, ConnectTimeout: 3 * time.Second, Existing: true}

// about returns an error by which the attempt is over: no way to the host.
func about(s segment) icmpError {
	e := icmpError{kind: unreachableV4, code: 1, about: s, quotes: 8}
	if s.v6() {
		e.kind, e.code = unreachableV6, 3
	}
	return e
}

// The codes that end an attempt, and those that do not.
func TestICMPErrorsThatEndAnAttempt(t *testing.T) {
	ends := map[bool]map[byte]bool{
		false: {0: true, 1: true, 2: true, 3: true, 6: true, 7: true, 9: true, 10: true, 11: true, 12: true, 13: true},
		true:  {0: true, 1: true, 3: true, 4: true, 5: true, 6: true},
	}
	for code := range byte(20) {
		everywhere(t, unreachableSettings, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
			s := c.segment(syn, "")
			c.passed(c.send(syn, ""), c.hookOut, "admitted")
			e := about(s)
			e.code = code
			if !ends[s.v6()][code] {
				c.comeBack(e, "foreign")
				c.r.wantTotals(want{Connections: 1})
				return
			}
			c.comeBack(e, "flow")
			w := want{Judged: 1, Failures: 1, Outcomes: map[string]uint64{"unreachable": 1}}
			c.r.wantTotals(w)
			// Again, a retransmission, and the time-out: nothing is judged twice.
			c.comeBack(e, "flow")
			c.passed(c.put(c.out, s, c.ctx), c.hookOut, "flow")
			c.r.sweepAt(tables.Now()+int64(4*time.Second), time.Hour)
			c.r.wantTotals(w)
			// One that is established all the same is followed on.
			c.ack = 5000
			c.passed(c.recv(syn|ack, ""), c.hookIn, "flow")
			c.ask(get)
			c.answer(ok)
			c.r.wantTotals(want{
				Connections: 1, Admitted: 1, Judged: 2, Failures: 1, Outcomes: map[string]uint64{"unreachable": 1, "2xx": 1},
			})
		})
	}
}

// What does not quote the SYN of an attempt changes nothing.
func TestICMPErrorsThatEndNothing(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(e *icmpError)
		v4     bool // has no equivalent in IPv6
		reason string
	}{
		{name: "another sequence number", change: func(e *icmpError) { e.about.seq++ }, reason: "flow"},
		{name: "another client port", change: func(e *icmpError) { e.about.src = netipPort(e.about.src, 41111) }, reason: "untracked"},
		{name: "another backend", change: func(e *icmpError) { e.about.dst = netip.AddrPortFrom(e.about.dst.Addr().Next(), e.about.dst.Port()) }, reason: "untracked"},
		{name: "a port that is not watched", change: func(e *icmpError) { e.about.dst = netipPort(e.about.dst, 9) }, reason: "foreign"},
		{name: "another type", change: func(e *icmpError) { e.kind = 4 }, reason: "foreign"},
		{name: "less than the sequence number", change: func(e *icmpError) { e.quotes = 7 }, reason: "foreign"},
		{name: "nothing of TCP", change: func(e *icmpError) { e.quotes = 0 }, reason: "foreign"},
		{name: "a quoted fragment", v4: true, change: func(e *icmpError) { e.about.fragment = 0x2000 }, reason: "foreign"},
		{name: "quoted IP options", v4: true, change: func(e *icmpError) { e.about.ipOptions = []byte{1, 1, 1, 1} }, reason: "foreign"},
		{name: "quoted UDP", change: func(e *icmpError) {
			e.edit = func(_, quoted []byte) {
				if quoted[0]>>4 == 6 {
					quoted[6] = 17
				} else {
					quoted[9] = 17
				}
			}
		}, reason: "foreign"},
		{name: "a quoted packet of another version", change: func(e *icmpError) {
			e.edit = func(_, quoted []byte) { quoted[0] = quoted[0]&0xf | 0x50 }
		}, reason: "foreign"},
		{name: "a fragment", v4: true, change: func(e *icmpError) { e.edit = func(outer, _ []byte) { outer[6] = 0x20 } }, reason: "foreign"},
		{name: "IP options", v4: true, change: func(e *icmpError) { e.edit = func(outer, _ []byte) { outer[0] = 0x46 } }, reason: "foreign"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			everywhere(t, unreachableSettings, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
				s := c.segment(syn, "")
				if tc.v4 && s.v6() {
					return
				}
				c.passed(c.send(syn, ""), c.hookOut, "admitted")
				e := about(s)
				tc.change(&e)
				c.comeBack(e, tc.reason)
				c.r.wantTotals(want{Connections: 1})
				// The good packet, of which that was a mutation.
				e = about(s)
				e.trailer = true
				c.comeBack(e, "flow")
				c.r.wantTotals(want{Judged: 1, Failures: 1, Outcomes: map[string]uint64{"unreachable": 1}})
			})
		})
	}
}

// An established connection outlives such an error, whichever of its sequence numbers is quoted.
func TestICMPErrorsOfEstablishedConnections(t *testing.T) {
	everywhere(t, unreachableSettings, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
		first := c.segment(syn, "")
		c.open()
		c.comeBack(about(first), "flow")
		request := c.segment(psh|ack, get)
		c.ask(get)
		c.comeBack(about(first), "flow")
		c.comeBack(about(request), "flow")
		c.r.wantTotals(want{Connections: 1, InFlight: 1, Admitted: 1})
		c.answer(ok)
		c.r.wantTotals(want{Connections: 1, Admitted: 1, Judged: 1, Outcomes: map[string]uint64{"2xx": 1}})
	})
}

// A probe whose SYN finds no way has failed: its permit is used.
func TestICMPErrorOfAProbe(t *testing.T) {
	everywhere(t, unreachableSettings, halfOpen(1, 1), func(t *testing.T, c *conn) {
		s := c.segment(syn, "")
		c.passed(c.send(syn, ""), c.hookOut, "probe")
		c.comeBack(about(s), "flow")
		c.r.wantTotals(want{Probes: 1, Judged: 1, Failures: 1, Permits: 1, Outcomes: map[string]uint64{"unreachable": 1}})
		c.r.wantEvents("probe permit generation 2", "outcome 10 judged 0 failure permit generation 2")
	})
}

// If no backend is an address of the node, no program parses errors that leave it.
func TestICMPErrorsThatLeaveTheNode(t *testing.T) {
	r := newRig(t)
	r.put(backendV4, unreachableSettings, ledger.Verdict{Kind: ledger.Closed})
	c := r.dial(clientV4, backendV4)
	s := c.segment(syn, "")
	c.passed(c.send(syn, ""), "egress", "admitted")
	c.in, c.hookIn = r.d.objs.Egress, "egress"
	c.comeBack(about(s), "foreign")
	r.wantTotals(want{Connections: 1})
}
