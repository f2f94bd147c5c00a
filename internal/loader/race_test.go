package loader

import (
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// A request that crosses the backend's closing of a used connection says nothing of the backend.
func TestRequestCrossesTheClose(t *testing.T) {
	used := func(c *conn) {
		c.open().ask(get)
		c.answer(ok)
	}
	checkOutcomes(t, tables.PolicySettings{Existing: true, Timeout: 30 * time.Second}, []outcomeCase{
		{"the FIN was seen before", func(c *conn) {
			used(c)
			late := c.segment(psh|ack, get)
			c.passed(c.recvAt(c.ack, fin|ack, ""), c.hookIn, "flow")
			c.passed(c.put(c.out, late, c.ctx), c.hookOut, "admitted")
			c.passed(c.recvAt(c.ack, rst, ""), c.hookIn, "flow")
		}, outcomes(2, 1, 0, "2xx", "raced")},
		{"the FIN was seen before, and the client goes", func(c *conn) {
			used(c)
			c.passed(c.recvAt(c.ack, fin|ack, ""), c.hookIn, "flow")
			c.ask(get)
			c.passed(c.send(rst|ack, ""), c.hookOut, "flow")
		}, outcomes(2, 1, 0, "2xx", "raced")},
		{"the FIN was seen before, and nothing comes", func(c *conn) {
			used(c)
			c.passed(c.recvAt(c.ack, fin|ack, ""), c.hookIn, "flow")
			c.ask(get)
			c.r.sweepAt(tables.Now()+int64(30*time.Second), time.Hour)
			c.ack++
			c.passed(c.send(fin|ack, ""), c.hookOut, "flow")
		}, outcomes(2, 1, 0, "2xx", "raced")},
		{"the FIN comes after", func(c *conn) {
			used(c)
			before := c.seq
			c.ask(get)
			after := c.seq
			c.seq = before
			c.passed(c.recvAt(c.ack, fin|ack, ""), c.hookIn, "flow")
			c.seq = after
			c.passed(c.recvAt(c.ack+1, rst, ""), c.hookIn, "flow")
		}, outcomes(2, 1, 0, "2xx", "raced")},
		{"a RST that acknowledges less", func(c *conn) {
			used(c)
			before := c.seq
			c.ask(get)
			c.seq = before
			c.passed(c.recvAt(c.ack, rst|ack, ""), c.hookIn, "flow")
		}, outcomes(2, 1, 0, "2xx", "raced")},
		{"a RST that acknowledges the request", func(c *conn) {
			used(c)
			c.ask(get)
			c.passed(c.recvAt(c.ack, rst|ack, ""), c.hookIn, "flow")
		}, outcomes(2, 2, 1, "2xx", "reset")},
		{"a RST that acknowledges nothing", func(c *conn) {
			used(c)
			c.ask(get)
			c.passed(c.recvAt(c.ack, rst, ""), c.hookIn, "flow")
		}, outcomes(2, 2, 1, "2xx", "reset")},
		{"a FIN that acknowledges the request", func(c *conn) {
			used(c)
			c.ask(get)
			c.passed(c.recv(fin|ack, ""), c.hookIn, "flow")
			c.passed(c.send(fin|ack, ""), c.hookOut, "flow")
		}, outcomes(2, 2, 1, "2xx", "reset")},
		{"the first request of a connection", func(c *conn) {
			c.open()
			before := c.seq
			c.ask(get)
			c.seq = before
			c.passed(c.recvAt(c.ack, rst|ack, ""), c.hookIn, "flow")
		}, outcomes(1, 1, 1, "reset")},
	})
}

// A probe that raced gives its permit back.
func TestRacedProbe(t *testing.T) {
	everywhere(t, tables.PolicySettings{Existing: true}, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
		c.open().ask(get)
		c.answer(ok)
		c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Open, Generation: 2, Until: tables.Now() - 1, Calls: 1, Concurrent: 1})
		before := c.seq
		c.passed(c.send(psh|ack, get), c.hookOut, "probe")
		c.seq = before
		c.passed(c.recvAt(c.ack, rst|ack, ""), c.hookIn, "flow")
		if got := c.r.totals(1); got.Permits != 0 || got.PermitsOut != 0 || got.Judged != 0 || got.Outcomes["raced"] != 1 {
			t.Errorf("totals %+v, expected the permit back", got)
		}
	})
}
