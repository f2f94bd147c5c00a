package loader

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"

	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// grace is how long new streams wait for the end of those in flight, and how long a limit only delays them.
const grace = time.Second

// tries sends what the client has written, and leaves its sequence number as it was.
func (h *h2) tries(flags uint8) result {
	h.r.t.Helper()
	return h.put(h.out, h.segment(flags, h.client.buf.String()), h.ctx)
}

// withheld checks that what the client has written is withheld, also when it is sent again.
func (h *h2) withheld() {
	h.r.t.Helper()
	for range 2 {
		h.did(h.tries(psh|ack), verdictDrop, h.hookOut+" drop withheld")
	}
}

// goes sends what was withheld before, which passes now.
func (h *h2) goes(reason string) {
	h.r.t.Helper()
	h.passed(h.send(psh|ack, h.client.take()), h.hookOut, reason)
}

// isWithholding checks whether the connection is marked as one whose data are withheld.
func (h *h2) isWithholding(want bool) {
	h.r.t.Helper()
	f, ok := h.r.flow(h.conn.client, h.conn.backend)
	if flagged := f.Flags&uint32(bpf.CFlowFlagFLOW_WITHHELD) != 0; !ok || flagged != want || (h.state().Withheld != 0) != want {
		h.r.t.Errorf("followed: %t, withheld: %t since %d, expected %t", ok, flagged, h.state().Withheld, want)
	}
}

// state returns the state of the only HTTP/2 connection.
func (h *h2) state() (c bpf.CHttp2Connection) {
	h.r.t.Helper()
	var key uint64
	it := h.r.d.objs.Http2Connections.Iterate()
	if !it.Next(&key, &c) {
		h.r.t.Fatalf("no HTTP/2 connection: %v", it.Err())
	}
	return c
}

// ago makes the time from which new streams are withheld earlier.
func (h *h2) ago(d time.Duration) {
	h.r.t.Helper()
	var key uint64
	var c bpf.CHttp2Connection
	it := h.r.d.objs.Http2Connections.Iterate()
	if !it.Next(&key, &c) || c.Withheld == 0 {
		h.r.t.Fatalf("nothing is withheld: %v", it.Err())
	}
	c.Withheld -= uint64(d)
	if err := h.r.d.objs.Http2Connections.Put(key, &c); err != nil {
		h.r.t.Fatal(err)
	}
}

// resetBoth checks that both sides get a reset in reply to what the client has written.
func (h *h2) resetBoth(reason string) {
	h.r.t.Helper()
	first := h.segment(psh|ack, h.client.buf.String())
	res := h.send(psh|ack, h.client.take())
	h.did(res, h.conn.answers, h.hookOut+" reset "+reason)
	h.is(res.segment, rst|ack, h.ack, h.seq, nil)
	h.backendReset(res, first)
}

// streamWindows is what raises the windows of streams on a connection that is taken over.
var streamWindows = greeting[:1]

// takenOver checks that the client gets answers to new streams, and the backend a reset. The same packet then gets the same
// answers again.
func (h *h2) takenOver(reason string, streams ...uint32) {
	h.r.t.Helper()
	first := h.segment(psh|ack, h.client.buf.String())
	res := h.send(psh|ack, h.client.take())
	h.is(res.segment, psh|ack, h.ack, h.seq, nil)
	h.gets(res, "respond "+reason, list(streamWindows, h.rejections(reason, streams...)))
	h.backendReset(res, first)
	h.again(first, res)
	h.ack += uint32(len(res.segment.payload))
	h.did(h.send(ack, ""), verdictDrop, h.hookOut+" swallow answered")

	// The backend may not have got the reset.
	h.passed(h.send(rst, ""), h.hookOut, "answered")
}

// cutOff checks that the client gets answers to new streams, GOAWAY and a FIN because streams in flight are cut off.
func (h *h2) cutOff(reason string, streams ...uint32) {
	h.r.t.Helper()
	first := h.segment(psh|ack, h.client.buf.String())
	res := h.send(psh|ack, h.client.take())
	h.is(res.segment, psh|ack|fin, h.ack, h.seq, nil)
	h.gets(res, "respond "+reason, append(h.rejections(reason, streams...), fmt.Sprintf("GOAWAY %d NO_ERROR", streams[len(streams)-1])))
	h.backendReset(res, first)
	h.again(first, res)
	h.ack += uint32(len(res.segment.payload)) + 1
	h.did(h.send(ack, ""), verdictDrop, h.hookOut+" swallow answered")
	res = h.send(fin|psh|ack, h.client.data(streams[0], true, "x").take())
	h.did(res, h.conn.answers, h.hookOut+" ack answered")
	h.is(res.segment, ack, h.ack, h.seq, nil)
}

// rejections returns the answers to streams.
func (h *h2) rejections(reason string, streams ...uint32) (frames []string) {
	for _, s := range streams {
		frames = append(frames, full(s, reason, h.retry(reason))...)
		if reason == "rate-limit" {
			frames[len(frames)-2] = strings.Replace(frames[len(frames)-2], "503", "429", 1)
		}
	}
	return frames
}

// again sends a packet again, and checks that the reply is what it was.
func (h *h2) again(s segment, res result) {
	h.r.t.Helper()
	again := h.put(h.out, s, h.ctx)
	h.did(again, h.conn.answers, h.hookOut+" ack answered")
	if !bytes.Equal(again.segment.payload, res.segment.payload) {
		h.r.t.Errorf("first %q, then %q", res.segment.payload, again.segment.payload)
	}
}

// retry is the number of seconds after which a client that is rejected may call again.
func (h *h2) retry(reason string) int {
	switch reason {
	case "open":
		return 60
	case "rate-limit":
		return 3600
	}
	return 1
}

// gets checks the frames that a client gets.
func (h *h2) gets(res result, count string, frames []string) {
	h.r.t.Helper()
	h.did(res, h.conn.answers, h.hookOut+" "+count)
	if diff := cmp.Diff(frames, newReader(h.r.t).read(res.segment.payload)); diff != "" {
		h.r.t.Errorf("frames (-want +got):\n%s", diff)
	}
}

// backendReset checks that the backend gets a reset at the first byte that it has not got.
func (h *h2) backendReset(res result, first segment) {
	h.r.t.Helper()
	if len(res.sent) != 1 {
		h.r.t.Fatalf("sent to the backend: %v", res.sent)
	}
	h.is(res.sent[0], rst|ack, first.seq, first.ack, nil)
	if _, ok := h.r.flow(h.conn.client, h.conn.backend); ok {
		h.r.t.Error("the connection is still followed")
	}
	h.r.sweepAt(tables.Now(), time.Hour)
}

// opens opens the circuit.
func (h *h2) opens() {
	h.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Open, Generation: 2, Until: tables.Now() + int64(time.Minute), Calls: 1, Concurrent: 1})
}

func (h *h2) closes() { h.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Closed, Generation: 4}) }

// ok writes the response to a request without a body.
func (p *peer) ok(stream uint32) *peer { return p.headers(stream, true, ":status", "200") }

func rejected(what string, n uint64) map[string]uint64 { return map[string]uint64{what: n} }

// count is a want with outcomes.
func (w want) with(classes ...string) want {
	w.Outcomes = map[string]uint64{}
	for _, c := range classes {
		w.Outcomes[c]++
	}
	return w
}

// takeoverCase is what happens on one HTTP/2 connection, and what is counted.
type takeoverCase struct {
	name    string
	policy  tables.PolicySettings
	verdict ledger.Verdict
	play    func(h *h2)
	want    want
}

func checkTakeovers(t *testing.T, cases []takeoverCase) {
	t.Helper()
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			everywhere(t, tc.policy, tc.verdict, func(t *testing.T, c *conn) {
				syn := "admitted"
				if tc.verdict.Kind == ledger.Open {
					syn = "probe"
				}
				h := c.connectHTTP2(syn, whole)
				tc.play(h)
				h.r.wantTotals(tc.want)
			})
		})
	}
}

// post writes the beginning of a request with a body.
func (p *peer) post(stream uint32) *peer {
	return p.headers(stream, false, ":method", "POST", ":scheme", "http", ":path", "/orders", ":authority", "orders")
}

var existing = tables.PolicySettings{Existing: true}

func TestNewStreamsAreWithheld(t *testing.T) {
	checkTakeovers(t, []takeoverCase{
		{"until the circuit closes", existing, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.get(1))
			h.opens()
			h.client.get(3)
			h.withheld()
			h.isWithholding(true)
			h.closes()
			h.goes("admitted")
			h.isWithholding(false)
			h.answers(h.backend.ok(1))
			h.answers(h.backend.ok(3))
			h.asks(h.client.get(5))
		}, want{Connections: 1, InFlight: 1, Admitted: 3, Judged: 1, Unjudged: 1}.with("2xx", "2xx")},
		{"until the lease of the agent expires", existing, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.get(1))
			h.opens()
			h.client.get(3)
			h.withheld()
			h.r.d.RenewLease(0)
			h.goes("lease-expired")
			h.isWithholding(false)
		}, want{Connections: 1, InFlight: 2, Admitted: 2}},
		{"with all data behind them", existing, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.get(1))
			h.opens()
			h.client.get(3)
			h.withheld()
			at := h.seq
			held := h.client.take()
			h.seq += uint32(len(held))
			h.client.data(1, false, "x")
			h.withheld()
			h.did(h.tries(fin|psh|ack), verdictDrop, h.hookOut+" drop withheld")
			// Packets without data, and data that the backend may have lost.
			h.passed(h.put(h.out, h.segment(ack, ""), h.ctx), h.hookOut, "flow")
			first := h.segment(psh|ack, "x")
			first.seq = at - 1
			h.passed(h.put(h.out, first, h.ctx), h.hookOut, "flow")
			h.seq = at
			h.closes()
			h.passed(h.send(psh|ack, held), h.hookOut, "admitted")
			h.goes("flow")
			h.isWithholding(false)
		}, want{Connections: 1, InFlight: 2, Admitted: 2}},
		{"but not the data before them, if these come alone", existing, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.post(1))
			h.opens()
			body := h.client.data(1, true, "body").take()
			rest := h.client.get(3).take()
			h.client.buf.WriteString(body + rest)
			h.withheld()
			h.client.take()
			h.passed(h.send(psh|ack, body), h.hookOut, "flow")
			h.isWithholding(true)
			h.client.buf.WriteString(rest)
			h.withheld()
			h.answers(h.backend.ok(1))
			h.takenOver("open", 3)
		}, want{Admitted: 1, Unjudged: 1, Takeovers: 1, Rejected: rejected("open respond", 1)}.with("2xx")},
		{"in a packet whose end is a part of a header", existing, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.get(1))
			h.opens()
			all := h.client.get(3).take()
			h.passed(h.send(psh|ack, all[:5]), h.hookOut, "flow")
			h.client.buf.WriteString(all[5:])
			h.withheld()
			h.closes()
			h.goes("admitted")
			h.answers(h.backend.ok(1).ok(3))
		}, want{Connections: 1, Admitted: 2, Judged: 1, Unjudged: 1}.with("2xx", "2xx")},
		{"while the client has not received all responses", existing, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.get(1))
			at := h.ack
			h.answers(h.backend.ok(1))
			h.opens()
			end := h.ack
			h.ack = at
			h.client.get(3)
			h.withheld()
			h.ack = end
			h.takenOver("open", 3)
		}, want{Admitted: 1, Takeovers: 1, Rejected: rejected("open respond", 1)}.with("2xx")},
		{"until the backend has closed", existing, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.get(1))
			h.opens()
			h.client.get(3)
			h.withheld()
			h.passed(h.recv(fin|ack, ""), h.hookIn, "flow")
			h.r.sweepAt(tables.Now(), time.Hour)
			h.ack-- // the FIN is under way
			h.withheld()
			h.ack++
			h.withheld()
			h.ago(grace)
			h.resetBoth("open")
		}, want{Admitted: 1, Unjudged: 1, Takeovers: 1, Rejected: rejected("open reset", 1)}.with("reset")},
		{"until the backend resets the connection", existing, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.get(1))
			h.opens()
			h.client.get(3)
			h.withheld()
			h.passed(h.recv(rst|ack, ""), h.hookIn, "flow")
			h.r.sweepAt(tables.Now(), time.Hour)
		}, want{Admitted: 1, Unjudged: 1}.with("reset")},
		{"until the client resets the connection", existing, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.get(1))
			h.opens()
			h.client.get(3)
			h.withheld()
			reset := h.segment(rst|ack, "")
			reset.seq += uint32(h.client.buf.Len())
			h.passed(h.put(h.out, reset, h.ctx), h.hookOut, "flow")
			h.r.sweepAt(tables.Now(), time.Hour)
		}, want{Admitted: 1, Unjudged: 1}.with("aborted")},
		{"when the client has sent a FIN behind them", existing, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.get(1))
			h.opens()
			h.client.get(3)
			h.withheld()
			end := h.segment(fin|ack, "")
			end.seq += uint32(h.client.buf.Len())
			h.passed(h.put(h.out, end, h.ctx), h.hookOut, "flow")
			h.withheld()
			h.answers(h.backend.ok(1))
			h.takenOver("open", 3)
		}, want{Admitted: 1, Unjudged: 1, Takeovers: 1, Rejected: rejected("open respond", 1)}.with("2xx")},
	})
}

func TestConnectionsAreTakenOver(t *testing.T) {
	checkTakeovers(t, []takeoverCase{
		{"at once if no stream is open", existing, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.get(1))
			h.answers(h.backend.headers(1, false, ":status", "200").data(1, true, "ok"))
			h.opens()
			h.client.get(3)
			h.takenOver("open", 3)
		}, want{Admitted: 1, Takeovers: 1, Rejected: rejected("open respond", 1)}.with("2xx")},
		{"for later streams, too, until the circuit closes", existing, ledger.Verdict{}, func(h *h2) {
			h.opens()
			h.client.get(1)
			h.takenOver("open", 1)
			h.client.get(3).get(5)
			res := h.send(psh|ack, h.client.take())
			h.gets(res, "respond open", h.rejections("open", 3, 5))
			h.ack += uint32(len(res.segment.payload))
			h.closes()
			h.client.call(7)
			res = h.send(psh|ack, h.client.take())
			h.gets(res, "respond admitted", []string{"GOAWAY 5 NO_ERROR"})
			h.is(res.segment, psh|ack|fin, h.ack, h.seq, nil)
		}, want{Takeovers: 1, Rejected: rejected("open respond", 3)}},
		{"before the first stream", existing, ledger.Verdict{}, func(h *h2) {
			h.opens()
			h.client.get(1)
			h.takenOver("open", 1)
		}, want{Takeovers: 1, Rejected: rejected("open respond", 1)}},
		{"when the streams in flight have ended", existing, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.get(1))
			h.opens()
			h.client.get(3)
			h.withheld()
			h.answers(h.backend.headers(1, false, ":status", "200"))
			h.withheld()
			h.answers(h.backend.data(1, true, "ok"))
			h.takenOver("open", 3)
		}, want{Admitted: 1, Unjudged: 1, Takeovers: 1, Rejected: rejected("open respond", 1)}.with("2xx")},
		{"after the grace if the backend is between frames", existing, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.get(1))
			h.opens()
			h.client.get(3)
			h.withheld()
			h.ago(grace)
			h.cutOff("open", 3)
		}, want{Admitted: 1, Unjudged: 1, Takeovers: 1, Rejected: rejected("open respond", 1)}.with("unknown")},
		{"not before", existing, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.get(1))
			h.opens()
			h.client.get(3)
			h.withheld()
			h.ago(grace - 300*time.Millisecond)
			h.withheld()
		}, want{Connections: 1, InFlight: 1, Admitted: 1}},
		{"or reset after the grace if the backend is inside a frame", existing, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.get(1))
			frames := h.backend.headers(1, false, ":status", "200").data(1, true, "much").take()
			h.answer(frames[:len(frames)-1])
			h.opens()
			h.client.get(3)
			h.withheld()
			h.ago(grace)
			h.resetBoth("open")
		}, want{Admitted: 1, Takeovers: 1, Rejected: rejected("open reset", 1)}.with("2xx")},
		{"or reset after the grace if the frames of the backend are not known", existing, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.get(1))
			frames := h.backend.headers(1, false, ":status", "200").data(1, true, "much").take()
			h.ack++ // the first byte is lost
			h.answer(frames[1:])
			h.opens()
			h.client.get(3)
			h.withheld()
			h.ago(grace)
			h.resetBoth("open")
		}, want{Admitted: 1, Unjudged: 1, Takeovers: 1, Rejected: rejected("open reset", 1)}.with("unknown")},
		{"forced open", existing, ledger.Verdict{}, func(h *h2) {
			h.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.ForcedOpen, Generation: 2})
			h.client.get(1)
			h.takenOver("forced-open", 1)
		}, want{Takeovers: 1, Rejected: rejected("forced-open respond", 1)}},
		{"at the last stream that a connection may have", tables.PolicySettings{Existing: true, MaxRequestsPerConnection: 1}, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.get(1))
			h.client.get(3)
			h.withheld()
			h.answers(h.backend.ok(1))
			h.takenOver("connection-limit", 3)
		}, want{Admitted: 1, Judged: 1, Takeovers: 1, Rejected: rejected("connection-limit respond", 1)}.with("2xx")},
	})
}

// answeredBy checks what was sent when a connection was taken over, and returns the frames that the client gets.
func (h *h2) answeredBy(res result, first segment, options []byte) []string {
	h.r.t.Helper()
	h.did(res, h.conn.answers, h.hookOut+" respond open")
	if len(res.sent) == 0 {
		h.r.t.Fatal("nothing was sent to the backend")
	}
	reset := slices.IndexFunc(res.sent, func(s segment) bool { return s.flags&rst != 0 })
	if reset < 0 {
		h.r.t.Fatalf("the backend got no reset, but %v", res.sent)
	}
	h.is(res.sent[reset], rst|ack, first.seq, first.ack, nil)
	res.sent = slices.Delete(slices.Clone(res.sent), reset, reset+1)
	r, seq := newReader(h.r.t), first.ack
	var got []string
	for i, s := range append(res.sent, res.segment) {
		h.is(s, psh|ack, seq, res.segment.ack, options)
		if s.src != h.conn.backend || !h.l3 && (s.srcMAC != nodeMAC || s.dstMAC != clientMAC) {
			h.r.t.Errorf("segment %d goes from %s, %x > %x", i, s.src, s.srcMAC, s.dstMAC)
		}
		seq += uint32(len(s.payload))
		got = append(got, r.read(s.payload)...)
	}
	return got
}

// takes sends what the client has written on a connection that is then taken over, and checks the frames that it gets.
func (h *h2) takes(frames ...string) {
	h.r.t.Helper()
	first := h.segment(psh|ack, h.client.buf.String())
	got := h.answeredBy(h.send(psh|ack, h.client.take()), first, nil)
	if diff := cmp.Diff(frames, got); diff != "" {
		h.r.t.Errorf("frames (-want +got):\n%s", diff)
	}
}

func TestAnswersOfATakeover(t *testing.T) {
	checkTakeovers(t, []takeoverCase{
		{"in the protocol of each stream", existing, ledger.Verdict{}, func(h *h2) {
			h.opens()
			h.client.get(1).call(3).headers(5, true, ":method", "HEAD", ":path", "/")
			h.takes(list(streamWindows, full(1, "open", 60), trailers(3, "open"), headOnly(5, "open", 60))...)
		}, want{Takeovers: 1, Rejected: rejected("open respond", 3)}},
		{"gRPC if the type is not known, but that of an earlier stream is", existing, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.call(1))
			h.answers(h.backend.reply(1, "0"))
			h.opens()
			must(h.client.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: []byte{0xff, 0x40}, EndStream: true, EndHeaders: true}))
			h.takes(list(streamWindows, trailers(3, "open"))...)
		}, want{Admitted: 1, Takeovers: 1, Rejected: rejected("open respond", 1)}.with("grpc-ok")},
		{"when the rest of a header block has come", existing, ledger.Verdict{}, func(h *h2) {
			h.opens()
			all := h.client.get(1).take()
			first := h.segment(psh|ack, all[:20])
			res := h.send(psh|ack, all[:20])
			h.gets(res, "ack answered", streamWindows)
			h.backendReset(res, first)
			h.ack += uint32(len(res.segment.payload))
			res = h.send(psh|ack, all[20:])
			h.gets(res, "respond open", full(1, "open", 60))
		}, want{Takeovers: 1, Rejected: rejected("open respond", 1)}},
		{"to a packet that begins with data that the backend has", existing, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.post(1))
			h.answers(h.backend.headers(1, false, ":status", "200"))
			body := h.client.data(1, true, "body").take()
			h.passed(h.send(psh|ack, body), h.hookOut, "flow")
			h.opens()
			again := h.segment(psh|ack, body+h.client.get(3).take())
			again.seq -= uint32(len(body))
			h.did(h.put(h.out, again, h.ctx), verdictDrop, h.hookOut+" drop withheld")
			h.answers(h.backend.data(1, true, "ok"))
			again.ack = h.ack
			res := h.put(h.out, again, h.ctx)
			h.gets(res, "respond open", list(streamWindows, full(3, "open", 60)))
			h.backendReset(res, h.segment(psh|ack, ""))
			h.is(res.segment, psh|ack, h.ack, again.seq+uint32(len(again.payload)), nil)
		}, want{Admitted: 1, Takeovers: 1, Rejected: rejected("open respond", 1)}.with("2xx")},
		{"resets count each stream", tables.PolicySettings{Existing: true, Reject: tables.Reset}, ledger.Verdict{}, func(h *h2) {
			h.opens()
			h.client.get(1).get(3).get(5)
			h.resetBoth("open")
		}, want{Takeovers: 1, Rejected: rejected("open reset", 3)}},
	})
}

// answersTo returns the answers to the streams from the n-th on.
func answersTo(from, to uint32) (frames []string) {
	for n := from; n < to; n++ {
		frames = append(frames, full(2*n+1, "open", 60)...)
	}
	return frames
}

// segmentsOf returns what a client gets in all segments of a reply.
func segmentsOf(res result) (all []byte) {
	for _, s := range append(res.sent, res.segment) {
		all = append(all, s.payload...)
	}
	return all
}

// A packet with more new streams than fit the segments that are sent at once: the client repeats the others.
func TestAnswersOfATakeoverFitItsSegments(t *testing.T) {
	everywhere(t, existing, ledger.Verdict{}, func(t *testing.T, c *conn) {
		h := c.openHTTP2(whole)
		h.opens()
		for i := range uint32(200) {
			h.client.get(2*i + 1)
		}
		first := h.segment(psh|ack, h.client.buf.String())
		res := h.send(psh|ack, h.client.take())
		got := h.answeredBy(res, first, nil)
		n := uint32(len(got) / 2)
		frames := list(streamWindows, answersTo(0, n))
		if diff := cmp.Diff(frames, got); diff != "" {
			t.Errorf("frames (-want +got):\n%s", diff)
		}
		if n < 50 || n == 200 || len(res.sent) > 8 {
			t.Errorf("%d streams were answered in %d segments", n, len(res.sent))
		}
		// The client acknowledges them, and sends again what is not acknowledged then.
		h.ack = res.segment.seq + uint32(len(res.segment.payload))
		res = h.send(ack, "")
		h.did(res, h.conn.answers, h.hookOut+" ack answered")
		acked := res.segment.ack
		rest := h.segment(psh|ack, string(first.payload[acked-first.seq:]))
		rest.seq = acked
		again := h.put(h.out, rest, h.ctx)
		h.did(again, h.conn.answers, h.hookOut+" respond open")
		more := newReader(t).read(segmentsOf(again))
		if diff := cmp.Diff(answersTo(n, n+uint32(len(more)/2)), more); diff != "" {
			t.Errorf("frames after the first segments (-want +got):\n%s", diff)
		}
		h.r.wantTotals(want{Takeovers: 1, Rejected: rejected("open respond", uint64(n)+uint64(len(more)/2))})
	})
}

// The circuit opens between the SYN and the first stream, and the backend has sent nothing.
func TestTakeoverBeforeTheBackendsPreface(t *testing.T) {
	everywhere(t, existing, ledger.Verdict{}, func(t *testing.T, c *conn) {
		h := &h2{conn: c.open(), client: newPeer(), backend: newPeer()}
		h.opens()
		must(h.client.framer.WriteSettings())
		settings := http2.ClientPreface + h.client.take()
		h.client.buf.WriteString(settings)
		h.client.get(1)
		h.takes(list(greeting, []string{"SETTINGS ACK"}, full(1, "open", 60))...)
		h.r.wantTotals(want{Takeovers: 1, Rejected: rejected("open respond", 1)})
	})
}

// Streams that began before a connection was followed may be in flight: a new one waits, and their client is told of their end.
func TestTakeoverOfAJoinedConnection(t *testing.T) {
	everywhere(t, existing, ledger.Verdict{}, func(t *testing.T, c *conn) {
		h := &h2{conn: c, client: newPeer(), backend: newPeer(), carry: whole}
		h.ack = 5000
		h.asks(h.client.get(3))
		h.answers(h.backend.ok(3))
		h.opens()
		h.client.get(5)
		h.withheld()
		h.ago(grace)
		h.cutOff("open", 5)
		h.r.wantTotals(want{Admitted: 1, Takeovers: 1, Rejected: rejected("open respond", 1)}.with("2xx"))
	})
}

func TestTakeoverFitsTheClientsSegments(t *testing.T) {
	for _, f := range families {
		for name, tc := range map[string]struct {
			options []byte
			mss     uint16
			fits    bool
		}{
			"timestamps":                 {timestamps(7, 9), 1460, true},
			"an MSS below the answer":    {nil, 60, false},
			"an MSS of half the answers": {nil, 200, true},
			"timestamps and a small MSS": {timestamps(7, 9), 120, true},
		} {
			t.Run(f.name+"/"+name, func(t *testing.T) {
				r := newRig(t)
				r.put(f.backend, existing, ledger.Verdict{})
				c := r.dial(f.client, f.backend)
				c.options = tc.options
				s := c.segment(syn, "")
				s.options = mssOption(tc.mss)
				c.passed(c.put(c.out, s, c.ctx), "egress", "admitted")
				c.seq++
				c.ack = 5000
				c.passed(c.recv(syn|ack, ""), "ingress", "flow")
				c.passed(c.send(ack, ""), "egress", "flow")
				h := c.exchangeSettings(whole)
				h.opens()
				h.client.get(1).get(3)
				if !tc.fits {
					h.resetBoth("open")
					r.wantTotals(want{Takeovers: 1, Rejected: rejected("open reset", 1)})
					return
				}
				first := h.segment(psh|ack, h.client.buf.String())
				res := h.send(psh|ack, h.client.take())
				var swapped []byte
				if tc.options != nil {
					swapped = timestamps(9, 7)
				}
				got := h.answeredBy(res, first, swapped)
				if diff := cmp.Diff(list(streamWindows, full(1, "open", 60), full(3, "open", 60)), got); diff != "" {
					t.Errorf("frames (-want +got):\n%s", diff)
				}
				for _, s := range append(res.sent, res.segment) {
					if len(s.payload)+len(s.options) > int(tc.mss) {
						t.Errorf("a segment has %d bytes", len(s.payload))
					}
				}
				r.wantTotals(want{Takeovers: 1, Rejected: rejected("open respond", 2)})
			})
		}
	}
}

func TestStreamsOfAPacketShareItsFate(t *testing.T) {
	limited := tables.PolicySettings{Existing: true, MaxRequests: 2}
	checkTakeovers(t, []takeoverCase{
		{"admitted with the first", limited, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.get(1).get(3).get(5).get(7))
			h.answers(h.backend.ok(7).ok(5))
			h.client.get(9).get(11)
			h.withheld()
			h.answers(h.backend.ok(3))
			h.goes("admitted")
		}, want{Connections: 1, InFlight: 3, Admitted: 6, OverAdmitted: 3, Judged: 1, Unjudged: 2}.with("2xx", "2xx", "2xx")},
		{"with more permits than there are", existing, halfOpen(2, 2), func(h *h2) {
			h.passed(h.send(psh|ack, h.client.get(1).get(3).get(5).get(7).take()), h.hookOut, "admitted")
			h.answers(h.backend.ok(7).ok(5).ok(3).ok(1))
		}, want{
			Connections: 1, Admitted: 4, OverAdmitted: 2, Probes: 2, Judged: 2, Unjudged: 2, Permits: 2,
		}.with("2xx", "2xx", "2xx", "2xx")},
		{"withheld with the first", existing, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.get(1))
			h.opens()
			h.client.get(3).get(5)
			h.withheld()
			h.closes()
			h.goes("admitted")
			h.answers(h.backend.ok(5).ok(3))
		}, want{Connections: 1, InFlight: 1, Admitted: 3, Judged: 2}.with("2xx", "2xx")},
	})
}

func TestLimitsDelayNewStreams(t *testing.T) {
	requests := tables.PolicySettings{Existing: true, MaxRequests: 1}
	rate := tables.PolicySettings{Existing: true, RateLimit: 1, RatePeriod: time.Hour, RateBurst: 1}
	checkTakeovers(t, []takeoverCase{
		{"until a request has ended", requests, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.get(1))
			h.client.get(3)
			h.withheld()
			h.isWithholding(true)
			h.answers(h.backend.ok(1))
			h.goes("admitted")
			h.isWithholding(false)
		}, want{Connections: 1, InFlight: 1, Admitted: 2, Judged: 1}.with("2xx")},
		{"until the rate admits them", rate, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.get(1))
			h.answers(h.backend.ok(1))
			h.client.get(3)
			h.withheld()
			change(h.r.t, h.r.d.objs.Targets, 1, func(t *bpf.CTarget) { t.RateNext -= uint64(time.Hour) })
			h.goes("admitted")
			h.isWithholding(false)
		}, want{Connections: 1, InFlight: 1, Admitted: 2, Judged: 1}.with("2xx")},
		{"for a second at most", rate, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.get(1))
			h.answers(h.backend.ok(1))
			h.client.get(3)
			h.withheld()
			h.ago(grace - 300*time.Millisecond)
			h.withheld()
			h.ago(300 * time.Millisecond)
			h.takenOver("rate-limit", 3)
		}, want{Admitted: 1, Judged: 1, Takeovers: 1, Rejected: rejected("rate-limit respond", 1)}.with("2xx")},
		{"and then until the streams in flight have ended", requests, ledger.Verdict{}, func(h *h2) {
			other := h.another(41000)
			other.open()
			other.ask(get)
			h.client.get(1)
			h.withheld()
			h.ago(grace)
			h.takenOver("request-limit", 1)
		}, want{Connections: 1, InFlight: 1, Admitted: 1, Takeovers: 1, Rejected: rejected("request-limit respond", 1)}},
		{"for another grace at most", requests, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.get(1))
			h.client.get(3)
			h.withheld()
			h.ago(2*grace - 300*time.Millisecond)
			h.withheld()
			h.ago(300 * time.Millisecond)
			h.cutOff("request-limit", 3)
		}, want{Admitted: 1, Unjudged: 1, Takeovers: 1, Rejected: rejected("request-limit respond", 1)}.with("unknown")},
	})
}

func TestHalfOpenStreams(t *testing.T) {
	checkTakeovers(t, []takeoverCase{
		{"one after another on one connection", existing, halfOpen(3, 1), func(h *h2) {
			for stream := uint32(1); stream <= 5; stream += 2 {
				h.passed(h.send(psh|ack, h.client.get(stream).take()), h.hookOut, "probe")
				h.answers(h.backend.ok(stream))
			}
		}, want{Connections: 1, Admitted: 3, Probes: 3, Judged: 3, Permits: 3}.with("2xx", "2xx", "2xx")},
		{"a stream waits for the probe on its connection", existing, halfOpen(2, 1), func(h *h2) {
			h.passed(h.send(psh|ack, h.client.get(1).take()), h.hookOut, "probe")
			h.client.get(3)
			h.withheld()
			h.ago(time.Hour)
			h.withheld()
			h.answers(h.backend.ok(1))
			h.goes("probe")
			h.isWithholding(false)
		}, want{Connections: 1, InFlight: 1, Admitted: 2, Probes: 2, Judged: 1, Permits: 2, PermitsOut: 1}.with("2xx")},
		{"the grace begins when the verdict changes", existing, halfOpen(1, 1), func(h *h2) {
			h.passed(h.send(psh|ack, h.client.get(1).take()), h.hookOut, "probe")
			h.client.get(3)
			h.withheld()
			h.ago(time.Hour)
			h.withheld()
			h.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.ForcedOpen, Generation: 3})
			h.withheld()
			h.ago(grace)
			h.cutOff("forced-open", 3)
		}, want{Admitted: 1, Probes: 1, Unjudged: 1, Takeovers: 1, Rejected: rejected("forced-open respond", 1)}.with("unknown")},
		{"other limits wait for the probe, too", tables.PolicySettings{Existing: true, MaxRequests: 1}, halfOpen(2, 2), func(h *h2) {
			h.passed(h.send(psh|ack, h.client.get(1).take()), h.hookOut, "probe")
			h.client.get(3)
			h.withheld()
			h.ago(time.Hour)
			h.withheld()
		}, want{Connections: 1, InFlight: 1, Admitted: 1, Probes: 1, Permits: 1, PermitsOut: 1}},
		{"when all probes have ended a stream waits for the verdict", existing, halfOpen(1, 1), func(h *h2) {
			h.passed(h.send(psh|ack, h.client.get(1).take()), h.hookOut, "probe")
			h.answers(h.backend.ok(1))
			h.client.get(3)
			h.withheld()
			h.closes()
			h.goes("admitted")
		}, want{Connections: 1, InFlight: 1, Admitted: 2, Probes: 1}.with("2xx")},
		{"for a second at most", existing, halfOpen(1, 1), func(h *h2) {
			h.passed(h.send(psh|ack, h.client.get(1).take()), h.hookOut, "probe")
			h.answers(h.backend.ok(1))
			h.client.get(3)
			h.withheld()
			h.ago(grace)
			h.takenOver("half-open", 3)
		}, want{
			Admitted: 1, Probes: 1, Judged: 1, Permits: 1, Takeovers: 1, Rejected: rejected("half-open respond", 1),
		}.with("2xx")},
		{"a stream does not wait for a probe of another connection", existing, halfOpen(2, 1), func(h *h2) {
			h.passed(h.send(psh|ack, h.client.get(1).take()), h.hookOut, "probe")
			h.answers(h.backend.ok(1))
			other := h.another(41000)
			other.connect("probe")
			h.client.get(3)
			h.takenOver("half-open", 3)
		}, want{
			Connections: 1, Admitted: 1, Probes: 2, Judged: 1, Permits: 2, PermitsOut: 1, Takeovers: 1,
			Rejected: rejected("half-open respond", 1),
		}.with("2xx")},
		{"a stream in flight without a permit", existing, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.get(1))
			other := h.another(41000)
			h.r.d.SetVerdict(1, halfOpen(1, 1))
			other.connect("probe")
			h.client.get(3)
			h.withheld()
			h.ago(time.Hour)
			h.withheld()
			other.passed(other.send(rst|ack, ""), other.hookOut, "flow")
			h.goes("probe")
			h.answers(h.backend.ok(3))
		}, want{Connections: 1, InFlight: 1, Admitted: 2, Probes: 2, Judged: 1, Permits: 1}.with("2xx")},
	})
}

func TestStreamsUnderOtherPolicies(t *testing.T) {
	reset := tables.PolicySettings{Existing: true, Reject: tables.Reset}
	drop := tables.PolicySettings{Existing: true, Reject: tables.Drop}
	monitored := ledger.Verdict{Kind: ledger.Open, Generation: 2, Until: tables.Now() + int64(time.Hour), Calls: 1, Concurrent: 1, Monitor: true}
	checkTakeovers(t, []takeoverCase{
		{"reset at once", reset, ledger.Verdict{}, func(h *h2) {
			h.opens()
			h.client.get(1)
			h.resetBoth("open")
		}, want{Takeovers: 1, Rejected: rejected("open reset", 1)}},
		{"reset when the streams in flight have ended", reset, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.get(1))
			h.opens()
			h.client.get(3)
			h.withheld()
			h.answers(h.backend.ok(1))
			h.resetBoth("open")
		}, want{Admitted: 1, Unjudged: 1, Takeovers: 1, Rejected: rejected("open reset", 1)}.with("2xx")},
		{"reset after the grace", reset, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.get(1))
			h.opens()
			h.client.get(3)
			h.withheld()
			h.ago(grace)
			h.resetBoth("open")
		}, want{Admitted: 1, Unjudged: 1, Takeovers: 1, Rejected: rejected("open reset", 1)}.with("unknown")},
		{"drop", drop, ledger.Verdict{}, func(h *h2) {
			h.asks(h.client.get(1))
			h.opens()
			h.client.get(3)
			for range 2 {
				h.did(h.tries(psh|ack), verdictDrop, h.hookOut+" drop open")
			}
			first := h.client.take()
			h.seq += uint32(len(first))
			h.client.data(1, true, "x")
			h.did(h.tries(psh|ack), verdictDrop, h.hookOut+" drop withheld")
			h.seq -= uint32(len(first))
			h.closes()
			h.passed(h.send(psh|ack, first), h.hookOut, "admitted")
			h.goes("flow")
		}, want{Connections: 1, InFlight: 2, Admitted: 2, Rejected: rejected("open drop", 2)}},
		{"existing connections are left alone", tables.PolicySettings{}, ledger.Verdict{}, func(h *h2) {
			h.opens()
			h.asks(h.client.get(1))
			h.answers(h.backend.headers(1, true, ":status", "500"))
		}, want{Connections: 1, Admitted: 1, Unjudged: 1}.with("5xx")},
		{"monitored", existing, ledger.Verdict{}, func(h *h2) {
			h.r.d.SetVerdict(1, monitored)
			h.passed(h.send(psh|ack, h.client.get(1).take()), h.hookOut, "monitored")
			h.answers(h.backend.headers(1, true, ":status", "500"))
		}, want{Connections: 1, Admitted: 1, Unjudged: 1, Would: rejected("open", 1)}.with("5xx")},
		{"disabled", existing, ledger.Verdict{}, func(h *h2) {
			h.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Disabled, Generation: 2})
			h.asks(h.client.get(1))
			h.answers(h.backend.headers(1, true, ":status", "500"))
		}, want{Connections: 1, Admitted: 1, Unjudged: 1}.with("5xx")},
	})
}
