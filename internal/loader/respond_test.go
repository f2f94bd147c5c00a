package loader

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/answer"
	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// is checks the header of a packet that a program made.
func (c *conn) is(s segment, flags uint8, seq, ack uint32, options []byte) {
	c.r.t.Helper()
	if s.flags != flags || s.seq != seq || s.ack != ack || !bytes.Equal(s.options, options) {
		c.r.t.Errorf("got %s\nexpected flags %#x seq %d ack %d options % x", s, flags, seq, ack, options)
	}
}

// answeredSYN sends a SYN that the kernel answers, and takes note of the answer.
func (c *conn) answeredSYN(reason string) {
	c.r.t.Helper()
	res := c.send(syn, "")
	c.did(res, c.answers, c.hookOut+" respond "+reason)
	c.is(res.segment, syn|ack, res.segment.seq, c.seq, mssOption(1400))
	if len(res.segment.payload) > 0 {
		c.r.t.Errorf("the SYN-ACK has a payload: %q", res.segment.payload)
	}
	c.ack = res.segment.seq + 1
	c.did(c.send(ack, ""), verdictDrop, c.hookOut+" swallow answered")
}

// isAnswer checks an HTTP answer and returns where it ends, its FIN included.
func (c *conn) isAnswer(s segment, seq, ack uint32, options []byte, wantStatus, wantReason, wantBody string) uint32 {
	c.r.t.Helper()
	c.is(s, psh|ackFlag|fin, seq, ack, options)
	status, headers, body, err := parseAnswer(s.payload)
	if err != nil {
		c.r.t.Fatal(err)
	}
	if status != wantStatus || headers["X-Cbagent-Reason"] != wantReason || body != wantBody {
		c.r.t.Errorf("status line %q, reason %q, body %q; expected %q, %q, %q",
			status, headers["X-Cbagent-Reason"], body, wantStatus, wantReason, wantBody)
	}
	if headers["Server"] != "cbagent" || headers["Connection"] != "close" || headers["Content-Type"] != "text/plain" {
		c.r.t.Errorf("headers %q", headers)
	}
	if wantBody != "" && headers["Content-Length"] != strconv.Itoa(len(wantBody)) {
		c.r.t.Errorf("Content-Length %q of %d bytes", headers["Content-Length"], len(wantBody))
	}
	return seq + uint32(len(s.payload)) + 1
}

const ackFlag = ack

const unavailable = "HTTP/1.1 503 Service Unavailable"

func TestNewConnectionIsAnswered(t *testing.T) {
	s := tables.PolicySettings{Reject: tables.Respond, Existing: true}
	wherever(t, s, openFor(time.Minute), func(t *testing.T, c *conn) {
		c.answeredSYN("open")
		c.r.wantTotals(want{})
		first := c.segment(psh|ack, get)
		res := c.send(psh|ack, get)
		c.did(res, c.answers, c.hookOut+" respond open")
		end := c.isAnswer(res.segment, c.ack, c.seq, nil, unavailable, "open", "not now: open")
		rejected := want{Rejected: map[string]uint64{"open respond": 1}}
		c.r.wantTotals(rejected)

		// The request again: the answer again, and the same.
		again := c.put(c.out, first, c.ctx)
		c.did(again, c.answers, c.hookOut+" ack answered")
		if !bytes.Equal(again.segment.payload, res.segment.payload) {
			t.Errorf("the answer was %q, and then %q", res.segment.payload, again.segment.payload)
		}
		c.is(again.segment, psh|ack|fin, c.ack, c.seq, nil)

		c.ack = end
		c.did(c.send(ack, ""), verdictDrop, c.hookOut+" swallow answered")
		res = c.send(fin|ack, "")
		c.did(res, c.answers, c.hookOut+" ack answered")
		c.is(res.segment, ack, end, c.seq, nil)
		c.did(c.send(rst, ""), verdictDrop, c.hookOut+" swallow answered")
		c.r.wantTotals(rejected)
		if n := c.r.d.NodeCounts().Flows; n != 0 {
			t.Errorf("%d connections are followed", n)
		}
	})
}

func TestAnsweredSYNs(t *testing.T) {
	long := answer.Render(answer.Spec{Status: 503, Body: strings.Repeat("x", 600)}, "open", true)
	for _, c := range []struct {
		name    string
		options []byte
		flags   uint8
		payload string
		reset   bool
		echoed  []byte // the client's timestamp, where it has one
	}{
		{name: "an MSS above the answer", options: mssOption(1460)},
		{name: "an MSS that just fits", options: mssOption(uint16(len(long.Bytes)))},
		{name: "an MSS below the answer", options: mssOption(uint16(len(long.Bytes) - 1)), reset: true},
		{name: "no options", options: []byte{}, reset: true},
		{name: "all options of Linux", options: append(append(mssOption(1460), 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0), 1, 3, 3, 7), echoed: []byte{0, 0, 0, 1}},
		{name: "MSS last", options: append([]byte{4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7}, mssOption(1460)...), echoed: []byte{0, 0, 0, 1}},
		{
			name: "an MSS that just fits, but for the timestamps", reset: true,
			options: append([]byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0}, mssOption(uint16(len(long.Bytes)+11))...),
		},
		{name: "an option of length 0", options: append([]byte{3, 0, 1, 1}, mssOption(1460)...), reset: true},
		{name: "an option of length 1", options: append([]byte{3, 1, 1, 1}, mssOption(1460)...), reset: true},
		{name: "the end of options before MSS", options: append([]byte{0, 0, 0, 0}, mssOption(1460)...), reset: true},
		{name: "an option that goes beyond the header", options: []byte{3, 40, 1, 1}, reset: true},
		{name: "MSS with another length", options: []byte{2, 3, 5, 1}, reset: true},
		{name: "40 options of one byte", options: bytes.Repeat([]byte{1}, 40), reset: true},
		{name: "ECN", options: mssOption(1460), flags: ece | cwr},
		{name: "TCP fast open", options: append(mssOption(1460), 34, 2, 1, 1), payload: get},
		{name: "TCP fast open, MSS below the answer", options: append(mssOption(536), 34, 2, 1, 1), payload: get, reset: true},
	} {
		for _, f := range families {
			t.Run(c.name+"/"+f.name, func(t *testing.T) {
				r := newRig(t)
				if err := r.d.PutAnswer(10, kernelAnswer(long)); err != nil {
					t.Fatal(err)
				}
				r.put(f.backend, tables.PolicySettings{Reject: tables.Respond, Answers: [tables.Rejections]int{10, 10, 10, 10, 10, 10}}, openFor(time.Minute))
				conn := r.dial(f.client, f.backend)
				s := segment{
					src: f.client, dst: f.backend, seq: 99, flags: syn | c.flags, options: c.options, payload: []byte(c.payload),
				}
				res := conn.put(conn.out, s, conn.ctx)
				if c.reset {
					conn.did(res, verdictRedirect, "egress reset open")
					conn.is(res.segment, rst|ack, 0, 100+uint32(len(c.payload)), nil)
					r.wantTotals(want{Rejected: map[string]uint64{"open reset": 1}})
					return
				}
				conn.did(res, verdictRedirect, "egress respond open")
				options := mssOption(1400)
				if c.echoed != nil {
					// Our own clock is in between.
					options = slices.Concat([]byte{1, 1, 8, 10}, res.segment.options[4:8], c.echoed, options)
				}
				conn.is(res.segment, syn|ack, res.segment.seq, 100, options)
				r.wantTotals(want{})
			})
		}
	}
}

func TestFirstBytesDecideTheAnswer(t *testing.T) {
	type kind int
	const (
		full kind = iota
		headersOnly
		reset
	)
	cases := map[string]kind{
		"": reset, "x": reset, " ": reset, "get / HTTP/1.1": reset, "PRJ * HTTP/2.0": reset, "SSH-2.0": reset,
		"\x16\x03\x01\x02": reset, "GETS": reset, "\x00": reset, "HEA": full, "Ge": reset, "ACLx": reset,
		head: headersOnly, "HEAD": headersOnly,
	}
	delete(cases, "")
	for _, m := range []string{
		"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "QUERY", "PURGE", "PROPFIND", "PROPPATCH",
		"REPORT", "MKCOL", "MKCALENDAR", "COPY", "MOVE", "LOCK", "UNLOCK", "SEARCH", "ACL", "BIND",
	} {
		cases[m+" / HTTP/1.1\r\n\r\n"] = full
		for n := 1; n < 4; n++ {
			cases[m[:n]] = full
		}
	}
	delete(cases, "HEA")
	for _, maybe := range []string{"P", "PR"} { // of HTTP/2: TestFirstBytesMayBeOfHTTP2
		delete(cases, maybe)
	}
	for first, k := range cases {
		for _, f := range families {
			t.Run(fmt.Sprintf("%q/%s", first, f.name), func(t *testing.T) {
				r := newRig(t)
				r.put(f.backend, tables.PolicySettings{Reject: tables.Respond}, ledger.Verdict{Kind: ledger.ForcedOpen})
				c := r.dial(f.client, f.backend)
				c.answeredSYN("forced-open")
				res := c.send(psh|ack, first)
				switch k {
				case reset:
					c.did(res, verdictRedirect, "egress reset forced-open")
					c.is(res.segment, rst|ack, c.ack, c.seq, nil)
					r.wantTotals(want{Rejected: map[string]uint64{"forced-open reset": 1}})
					return
				case full:
					c.isAnswer(res.segment, c.ack, c.seq, nil, unavailable, "forced-open", "not now: forced-open")
				case headersOnly:
					c.isAnswer(res.segment, c.ack, c.seq, nil, unavailable, "forced-open", "")
				}
				c.did(res, verdictRedirect, "egress respond forced-open")
				r.wantTotals(want{Rejected: map[string]uint64{"forced-open respond": 1}})
			})
		}
	}
}

func TestConnectionThatTheKernelAnsweredClosesWithoutARequest(t *testing.T) {
	wherever(t, tables.PolicySettings{Reject: tables.Respond}, openFor(time.Minute), func(t *testing.T, c *conn) {
		c.answeredSYN("open")
		res := c.send(fin|ack, "")
		c.did(res, c.answers, c.hookOut+" ack answered")
		c.is(res.segment, fin|ack, c.ack, c.seq, nil)
		c.ack++
		c.did(c.send(ack, ""), verdictDrop, c.hookOut+" swallow answered")
		c.r.wantTotals(want{})
	})
}

func TestConnectionThatTheKernelAnsweredIsReset(t *testing.T) {
	wherever(t, tables.PolicySettings{Reject: tables.Respond}, openFor(time.Minute), func(t *testing.T, c *conn) {
		c.answeredSYN("open")
		c.did(c.send(rst|ack, ""), verdictDrop, c.hookOut+" swallow answered")
		c.r.wantTotals(want{})
	})
}

// What the client was promised by a SYN-ACK is kept, whatever has happened since.
func TestVerdictThatChangesBetweenSYNAndRequest(t *testing.T) {
	wherever(t, tables.PolicySettings{Reject: tables.Respond}, openFor(time.Minute), func(t *testing.T, c *conn) {
		c.answeredSYN("open")
		c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Closed, Generation: 2})
		res := c.send(psh|ack, get)
		c.did(res, c.answers, c.hookOut+" respond open")
		c.isAnswer(res.segment, c.ack, c.seq, nil, unavailable, "open", "not now: open")
		_, headers, _, _ := parseAnswer(res.segment.payload)
		if headers["Retry-After"] != "1" {
			t.Errorf("Retry-After %q", headers["Retry-After"])
		}
		c.r.wantTotals(want{Rejected: map[string]uint64{"open respond": 1}})
	})
}

// A packet that acknowledges some other number is not ours.
func TestCookieIsOfItsConnection(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			r := newRig(t)
			r.put(f.backend, tables.PolicySettings{Reject: tables.Respond}, openFor(time.Minute))
			c := r.dial(f.client, f.backend)
			c.answeredSYN("open")
			isn := c.ack - 1
			seen := map[uint32]int{isn &^ 7: 0}
			for i := 1; i <= 64; i++ {
				other := r.dial(f.client, f.backend)
				switch i % 3 {
				case 0:
					other.client = netipPort(f.client, uint16(i))
				case 1:
					a := f.client.Addr().AsSlice()
					a[len(a)-1] ^= byte(i)
					other.client = netipAddr(f.client, a)
				case 2:
					other.client = netipPort(f.client, uint16(i<<8))
				}
				other.ack = isn + 1
				other.passed(other.send(ack, ""), "egress", "untracked")
				other.answeredSYN("open")
				if j, ok := seen[(other.ack-1)&^7]; ok {
					t.Errorf("connections %d and %d have the same number", i, j)
				}
				seen[(other.ack-1)&^7] = i
			}
			// Reasons that do not exist.
			for _, k := range []uint32{6, 7} {
				c.ack = isn&^7 + k + 1
				c.passed(c.send(ack, ""), "egress", "untracked")
			}
		})
	}
}

func TestAnswerBytes(t *testing.T) {
	minute := 60
	for _, c := range []struct {
		body    int
		retry   bool
		seconds int
	}{
		{0, true, minute}, {1, true, minute}, {2, true, minute}, {3, true, minute}, {4, true, minute}, {5, true, minute},
		{0, false, minute}, {1, false, minute}, {2, false, minute}, {3, false, minute}, {1000, true, minute}, {999, true, minute}, {998, false, minute},
		{997, true, minute},
		{13, true, 1}, {13, true, 9}, {13, true, 10}, {13, true, 99}, {13, true, 123}, {13, true, 1234}, {13, true, 12345},
		{13, true, 123456}, {13, true, 1234567}, {13, true, 12345678}, {13, true, 99999999}, {13, true, 100000000},
		{14, true, 90}, {15, true, 908}, {16, true, 9080}, {17, true, 90807},
	} {
		for _, f := range families {
			for _, ts := range []bool{false, true} {
				for _, request := range []string{get, head} {
					name := fmt.Sprintf("body %d/retry %t %d/%s/timestamps %t/%.4s", c.body, c.retry, c.seconds, f.name, ts, request)
					t.Run(name, func(t *testing.T) {
						r := newRig(t)
						body := strings.Repeat("körper", 200)[:c.body]
						a := answer.Render(answer.Spec{
							Status: 503, ContentType: "text/plain", Body: body,
							Headers: []answer.Header{{Name: "X-One", Value: "1"}},
						}, "open", c.retry)
						if err := r.d.PutAnswer(10, kernelAnswer(a)); err != nil {
							t.Fatal(err)
						}
						r.put(f.backend, tables.PolicySettings{Existing: true, Answers: [tables.Rejections]int{10, 10, 10, 10, 10, 10}}, ledger.Verdict{Kind: ledger.Closed})
						conn := r.dial(f.client, f.backend)
						var wantOptions []byte
						if ts {
							conn.options, wantOptions = timestamps(111, 222), timestamps(222, 111)
						}
						conn.open()
						r.d.SetVerdict(1, openFor(time.Duration(c.seconds)*time.Second))
						res := conn.send(psh|ack, request)
						conn.did(res, verdictRedirect, "egress respond open")
						if request == head {
							body = ""
						}
						conn.isAnswer(res.segment, conn.ack, conn.seq, wantOptions, unavailable, "open", body)
						_, headers, _, _ := parseAnswer(res.segment.payload)
						wantRetry := ""
						if c.retry {
							wantRetry = strconv.Itoa(min(c.seconds, 99999999))
						}
						if headers["Retry-After"] != wantRetry {
							t.Errorf("Retry-After %q, expected %q", headers["Retry-After"], wantRetry)
						}
						if headers["X-One"] != "1" {
							t.Errorf("headers %q", headers)
						}
					})
				}
			}
		}
	}
}

func TestRequestOnOpenConnectionIsAnswered(t *testing.T) {
	for _, options := range map[string][]byte{"": nil, "timestamps": timestamps(7, 9)} {
		everywhere(t, tables.PolicySettings{Existing: true}, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
			swapped := options
			if options != nil {
				swapped = timestamps(9, 7)
			}
			c.options = options
			c.open()
			c.ask(get)
			c.answer(ok)
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.ForcedOpen, Generation: 2})

			request := "POST /orders HTTP/1.1\r\nContent-Length: 6000\r\n\r\n" + strings.Repeat("b", 800)
			first := c.segment(psh|ack, request)
			res := c.send(psh|ack, request)
			c.did(res, c.answers, c.hookOut+" respond forced-open")
			end := c.isAnswer(res.segment, c.ack, c.seq, swapped, unavailable, "forced-open", "not now: forced-open")
			if len(res.sent) != 1 {
				t.Fatalf("sent to the backend: %v", res.sent)
			}
			c.is(res.sent[0], rst|ack, first.seq, first.ack, nil)
			if res.sent[0].src != c.client || res.sent[0].dst != c.backend || len(res.sent[0].payload) > 0 {
				t.Errorf("sent to the backend: %s", res.sent[0])
			}
			if !c.l3 && (res.sent[0].srcMAC != clientMAC || res.sent[0].dstMAC != nodeMAC) {
				t.Errorf("sent to the backend: %x > %x", res.sent[0].srcMAC, res.sent[0].dstMAC)
			}
			rejected := want{
				Admitted: 1, Rejected: map[string]uint64{"forced-open respond": 1}, Outcomes: map[string]uint64{"2xx": 1},
			}
			c.r.wantTotals(rejected)
			if _, ok := c.r.flow(c.client, c.backend); ok || c.r.d.NodeCounts().Flows != 0 {
				t.Error("the connection is still followed")
			}

			// The rest of the body: acknowledged, with the answer as long as it is not.
			answered := res.segment.payload
			for range 2 {
				res = c.send(ack, strings.Repeat("b", 1000))
				c.did(res, c.answers, c.hookOut+" ack answered")
				c.is(res.segment, psh|ack|fin, c.ack, c.seq, swapped)
				if !bytes.Equal(res.segment.payload, answered) {
					t.Errorf("answered first %q, then %q", answered, res.segment.payload)
				}
			}
			c.ack = end
			res = c.send(ack, strings.Repeat("b", 1000))
			c.did(res, c.answers, c.hookOut+" ack answered")
			c.is(res.segment, ack, end, c.seq, swapped)
			res = c.send(fin|psh|ack, strings.Repeat("b", 500))
			c.did(res, c.answers, c.hookOut+" ack answered")
			c.is(res.segment, ack, end, c.seq, swapped)
			// The backend must receive a reset, in case it has lost the one from here.
			for range 2 {
				c.passed(c.send(rst, ""), c.hookOut, "answered")
			}
			// What the backend still says is not ours.
			c.passed(c.recvAt(first.ack, ack, ""), c.hookIn, "untracked")
			c.r.wantTotals(rejected)
		})
	}
}

func TestAnswerMustFitTheClientsSegments(t *testing.T) {
	for _, f := range families {
		for name, options := range map[string][]byte{"": nil, "timestamps": timestamps(7, 9)} {
			for _, room := range []int{0, -1} {
				t.Run(fmt.Sprintf("%s %s %d", f.name, name, room), func(t *testing.T) {
					r := newRig(t)
					r.put(f.backend, tables.PolicySettings{Existing: true}, ledger.Verdict{Kind: ledger.Closed})
					c := r.dial(f.client, f.backend)
					size := int(element[bpf.CAnswer](t, r.d.objs.Answers, 0).Len) + len(options) + room
					s := c.segment(syn, "")
					s.options = mssOption(uint16(size))
					c.passed(c.put(c.out, s, c.ctx), "egress", "admitted")
					c.seq++
					c.ack, c.options = 5000, options
					c.recv(syn|ack, "")
					r.d.SetVerdict(1, openFor(time.Minute))
					res := c.send(psh|ack, get)
					if room < 0 {
						c.did(res, verdictRedirect, "egress reset open")
						r.wantTotals(want{Rejected: map[string]uint64{"open reset": 1}})
						return
					}
					c.did(res, verdictRedirect, "egress respond open")
					r.wantTotals(want{Rejected: map[string]uint64{"open respond": 1}})
				})
			}
		}
	}
}

func TestResetPolicy(t *testing.T) {
	for _, proto := range []tables.Protocol{tables.HTTP, tables.TCP} {
		t.Run([]string{"http", "tcp"}[proto], func(t *testing.T) {
			s := tables.PolicySettings{Reject: tables.Reset, Existing: true, Protocol: proto}
			everywhere(t, s, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
				c.open()
				w := want{Rejected: map[string]uint64{"open reset": 2}}
				if proto == tables.TCP {
					w.Admitted, w.Judged, w.Outcomes = 1, 1, map[string]uint64{"connected": 1}
				}
				c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Open, Generation: 2, Until: tables.Now() + int64(time.Minute), Calls: 1, Concurrent: 1})
				w.Judged = 0 // of the generation before
				first := c.segment(psh|ack, get)
				res := c.send(psh|ack, get)
				c.did(res, c.answers, c.hookOut+" reset open")
				c.is(res.segment, rst|ack, c.ack, c.seq, nil)
				if len(res.sent) != 1 {
					t.Fatalf("sent to the backend: %v", res.sent)
				}
				c.is(res.sent[0], rst|ack, first.seq, first.ack, nil)
				res = c.send(syn, "")
				c.did(res, c.answers, c.hookOut+" reset open")
				c.is(res.segment, rst|ack, 0, c.seq, nil)
				c.r.wantTotals(w)
			})
		})
	}
}

func TestDropPolicy(t *testing.T) {
	everywhere(t, tables.PolicySettings{Reject: tables.Drop, Existing: true}, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
		c.open()
		c.r.d.SetVerdict(1, openFor(time.Minute))
		request := c.segment(psh|ack, get)
		c.did(c.put(c.out, request, c.ctx), verdictDrop, c.hookOut+" drop open")
		c.did(c.put(c.out, request, c.ctx), verdictDrop, c.hookOut+" drop open")
		c.r.wantTotals(want{Connections: 1, Rejected: map[string]uint64{"open drop": 2}})
		// A client that went on sending gets through once the circuit has closed.
		c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Closed, Generation: 3})
		c.passed(c.put(c.out, request, c.ctx), c.hookOut, "admitted")
		c.seq += uint32(len(get))
		c.answer(ok)
		c.r.d.SetVerdict(1, openFor(time.Minute))
		other := *c
		other.client = netipPort(c.client, 41000)
		c.did(other.send(syn, ""), verdictDrop, c.hookOut+" drop open")
		c.r.wantTotals(want{
			Connections: 1, Admitted: 1, Rejected: map[string]uint64{"open drop": 3}, Outcomes: map[string]uint64{"2xx": 1},
		})
	})
}

// With existing off, clients with a connection are served.
func TestOpenConnectionsAreLeftAlone(t *testing.T) {
	for _, proto := range []tables.Protocol{tables.HTTP, tables.TCP} {
		t.Run([]string{"http", "tcp"}[proto], func(t *testing.T) {
			everywhere(t, tables.PolicySettings{Reject: tables.Reset, Protocol: proto}, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
				c.open()
				c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Open, Generation: 2, Until: tables.Now() + int64(time.Minute), Calls: 1, Concurrent: 1})
				w := want{Connections: 1, Admitted: 1}
				if proto == tables.HTTP {
					c.ask(get)
					c.answer(failed)
					w.Unjudged, w.Outcomes = 1, map[string]uint64{"5xx": 1}
				} else {
					c.passed(c.send(psh|ack, get), c.hookOut, "flow")
					w.Outcomes = map[string]uint64{"connected": 1}
				}
				c.r.wantTotals(w)
			})
		})
	}
}

func TestAnswersOfEachReason(t *testing.T) {
	statuses := map[tables.Rejection]string{tables.RejectedRateLimit: "HTTP/1.1 429 Too Many Requests"}
	settings := map[tables.Rejection]tables.PolicySettings{
		tables.RejectedConnectionLimit: {MaxRequestsPerConnection: 1},
		tables.RejectedRequestLimit:    {MaxRequests: 1},
		tables.RejectedRateLimit:       {RateLimit: 1, RatePeriod: time.Hour, RateBurst: 1},
	}
	for reason := range tables.Rejections {
		t.Run(tables.Rejection(reason).String(), func(t *testing.T) {
			s := settings[tables.Rejection(reason)]
			s.Existing = true
			everywhere(t, s, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
				name := tables.Rejection(reason).String()
				c.open()
				w := want{Rejected: map[string]uint64{name + " respond": 1}}
				switch tables.Rejection(reason) {
				case tables.RejectedOpen:
					c.r.d.SetVerdict(1, openFor(time.Minute))
				case tables.RejectedForcedOpen:
					c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.ForcedOpen, Generation: 2})
				case tables.RejectedHalfOpen:
					other := *c
					other.client = netipPort(c.client, 41000)
					c.r.d.SetVerdict(1, openFor(-time.Second))
					other.connect("probe")
					w.Connections, w.Probes, w.Permits, w.PermitsOut = 1, 1, 1, 1
				case tables.RejectedConnectionLimit, tables.RejectedRateLimit:
					c.ask(get)
					c.answer(ok)
					w.Admitted, w.Judged, w.Outcomes = 1, 1, map[string]uint64{"2xx": 1}
				case tables.RejectedRequestLimit:
					other := *c
					other.client = netipPort(c.client, 41000)
					other.open()
					other.ask(get)
					w.Connections, w.Admitted, w.InFlight = 1, 1, 1
				}
				res := c.send(psh|ack, get)
				c.did(res, c.answers, c.hookOut+" respond "+name)
				status := statuses[tables.Rejection(reason)]
				if status == "" {
					status = unavailable
				}
				c.isAnswer(res.segment, c.ack, c.seq, nil, status, name, "not now: "+name)
				c.r.wantTotals(w)
				_, headers, _, _ := parseAnswer(res.segment.payload)
				retry := map[tables.Rejection]string{tables.RejectedOpen: "60", tables.RejectedRateLimit: "3600"}[tables.Rejection(reason)]
				if retry == "" {
					retry = "1"
				}
				if headers["Retry-After"] != retry {
					t.Errorf("Retry-After %q, expected %q", headers["Retry-After"], retry)
				}
			})
		})
	}
}

// A checksum that a network card computed must follow the change of a packet whose length stays; for other packets the
// kernel discards that checksum itself.
func TestSumsOfNetworkCardsFollow(t *testing.T) {
	ingress := places[slices.IndexFunc(places, func(p place) bool { return p.name == "ingress" }):][:1]
	at(t, append(ingress, entries...), tables.PolicySettings{Reject: tables.Respond}, ledger.Verdict{Kind: ledger.ForcedOpen}, func(t *testing.T, c *conn) {
		c.r.needsChecksumComplete(t)
		c.answeredSYN("forced-open")
		c.did(c.send(fin|ack, ""), c.answers, "ingress ack answered")
	})
}
