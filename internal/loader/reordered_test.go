package loader

import (
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// Segments of a rejected request that overtake the first are dropped, and come again: TCP retransmits unacknowledged data.
func TestSegmentsThatOvertakeTheFirst(t *testing.T) {
	wherever(t, tables.PolicySettings{Existing: true}, openFor(time.Minute), func(t *testing.T, c *conn) {
		c.answeredSYN("open")
		first := c.segment(psh|ack, "POST /orders HTTP/1.1\r\nHost: orders.example.com\r\nContent-Length: 99\r\n\r\n")
		c.seq += uint32(len(first.payload))
		later := []segment{c.segment(ack, "the rest of a body"), c.segment(psh|ack, get), c.segment(fin|ack, "")}
		for _, s := range later {
			c.did(c.put(c.out, s, c.ctx), verdictDrop, c.hookOut+" swallow answered")
		}
		c.r.wantTotals(want{})
		res := c.put(c.out, first, c.ctx)
		c.did(res, c.answers, c.hookOut+" respond open")
		c.isAnswer(res.segment, c.ack, c.seq, nil, unavailable, "open", "not now: open")
		for _, s := range later {
			c.did(c.put(c.out, s, c.ctx), c.answers, c.hookOut+" ack answered")
		}
		c.r.wantTotals(want{Rejected: map[string]uint64{"open respond": 1}})
	})
}

// A SYN that comes late, or twice, changes nothing of a connection that was answered.
func TestSYNOfAnAnsweredConnection(t *testing.T) {
	wherever(t, tables.PolicySettings{Existing: true}, openFor(time.Minute), func(t *testing.T, c *conn) {
		again := c.segment(syn, "")
		again.options = mssOption(1460)
		c.answeredSYN("open")
		res := c.send(psh|ack, get)
		c.did(res, c.answers, c.hookOut+" respond open")
		end := c.isAnswer(res.segment, c.ack, c.seq, nil, unavailable, "open", "not now: open")
		c.did(c.put(c.out, again, c.ctx), verdictDrop, c.hookOut+" swallow answered")
		c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Closed, Generation: 2})
		c.did(c.put(c.out, again, c.ctx), verdictDrop, c.hookOut+" swallow answered")
		c.ack = end
		res = c.send(psh|ack, "more")
		c.did(res, c.answers, c.hookOut+" ack answered")
		c.is(res.segment, ack, end, c.seq, nil)
	})
}

// The circuit closes, and then a SYN comes once more that was answered. Its client is still ours.
func TestSYNAgainAfterTheCircuitHasClosed(t *testing.T) {
	everywhere(t, tables.PolicySettings{Existing: true}, openFor(time.Minute), func(t *testing.T, c *conn) {
		again := c.segment(syn, "")
		again.options = mssOption(1460)
		c.answeredSYN("open")
		c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Closed, Generation: 2})
		c.passed(c.put(c.out, again, c.ctx), c.hookOut, "admitted")
		c.passed(c.recvAt(77, syn|ack, ""), c.hookIn, "flow")
		res := c.send(psh|ack, get)
		c.did(res, c.answers, c.hookOut+" respond open")
		c.isAnswer(res.segment, c.ack, c.seq, nil, unavailable, "open", "not now: open")
		c.r.wantTotals(want{Rejected: map[string]uint64{"open respond": 1}})
	})
}

// Two minutes after a circuit last answered a SYN nothing is taken for a segment of such a connection.
func TestAnsweredConnectionsAreForgotten(t *testing.T) {
	everywhere(t, tables.PolicySettings{Existing: true}, openFor(time.Minute), func(t *testing.T, c *conn) {
		c.answeredSYN("open")
		c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Closed, Generation: 2})
		change(c.r.t, c.r.d.objs.Circuits, 1, func(c *bpf.CCircuit) { c.AnsweringUntil = 1 })
		c.ask(get)
	})
}

// A backend that goes to another circuit between a SYN and its request takes the answered connection along.
func TestAnsweredConnectionChangesItsCircuit(t *testing.T) {
	at(t, places[:4], tables.PolicySettings{Existing: true}, openFor(time.Minute), func(t *testing.T, c *conn) {
		c.answeredSYN("open")
		if err := c.r.putAt(2, netipPort(c.backend, 9999), tables.PolicySettings{Existing: true}, openFor(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if err := c.r.d.PutBackend(tables.Backend{Addr: c.backend}, 2, 0); err != nil {
			t.Fatal(err)
		}
		res := c.send(psh|ack, get)
		c.did(res, c.answers, c.hookOut+" respond open")
		c.isAnswer(res.segment, c.ack, c.seq, nil, unavailable, "open", "not now: open")
	})
}
