package loader

import (
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// A connection or request that passes the rate limit and gets no permit is rejected, and does not use up the rate.
func TestRateIsReturnedWithoutPermit(t *testing.T) {
	policy := tables.PolicySettings{Existing: true, RateLimit: 1, RatePeriod: time.Hour, RateBurst: 2}
	probe := func(generation uint32) ledger.Verdict {
		v := halfOpen(1, 1)
		v.Generation = generation
		return v
	}
	tcp := policy
	tcp.Protocol, tcp.Reject = tables.TCP, tables.Reset
	t.Run("connections", func(t *testing.T) {
		at(t, places[:1], tcp, probe(1), func(_ *testing.T, c *conn) {
			c.connect("probe")
			for port := uint16(41000); port < 41005; port++ {
				c.did(c.another(port).send(syn, ""), c.answers, c.hookOut+" reset half-open")
			}
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Closed, Generation: 3})
			c.another(42000).connect("admitted")
			c.did(c.another(42001).send(syn, ""), c.answers, c.hookOut+" reset rate-limit")
		})
	})
	t.Run("requests", func(t *testing.T) {
		at(t, places[:1], policy, ledger.Verdict{Kind: ledger.Closed, Generation: 1}, func(_ *testing.T, c *conn) {
			var idle []*conn
			for port := uint16(41000); port < 41005; port++ {
				idle = append(idle, c.another(port).open())
			}
			c.open()
			last := c.another(42000).open()
			over := c.another(42001).open()
			c.r.d.SetVerdict(1, probe(2))
			c.passed(c.send(psh|ack, get), c.hookOut, "probe")
			for _, o := range idle {
				o.did(o.send(psh|ack, get), o.answers, o.hookOut+" respond half-open")
			}
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Closed, Generation: 4})
			last.ask(get)
			over.did(over.send(psh|ack, get), over.answers, over.hookOut+" respond rate-limit")
		})
	})
}
