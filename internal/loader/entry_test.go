package loader

import (
	"net/netip"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// What is not surely rejected at the entry is left to the egress hook, as it is.
func TestEntryLeavesToEgress(t *testing.T) {
	forced := ledger.Verdict{Kind: ledger.ForcedOpen}
	for name, tc := range map[string]struct {
		policy  tables.PolicySettings
		verdict ledger.Verdict
		prepare func(c *conn)
		as      string // what it is counted as; empty: foreign
	}{
		"closed":       {verdict: ledger.Verdict{Kind: ledger.Closed}},
		"disabled":     {verdict: ledger.Verdict{Kind: ledger.Disabled}},
		"half-open":    {verdict: halfOpen(1, 1)},
		"monitored":    {verdict: ledger.Verdict{Kind: ledger.ForcedOpen, Monitor: true}},
		"no lease":     {verdict: forced, prepare: func(c *conn) { c.r.d.RenewLease(tables.Now()) }},
		"switched off": {verdict: forced, prepare: func(c *conn) { c.r.entry(false) }},
		"programs of others": {verdict: forced, prepare: func(c *conn) {
			if err := c.r.d.SetEntries([]int{c.r.ifindex + 1}); err != nil { // another interface
				c.r.t.Fatal(err)
			}
		}},
		"a frame for others": {verdict: forced, prepare: func(c *conn) { c.to = [6]byte{2, 0, 0, 0, 0, 9} }},
		"a broadcast frame":  {verdict: forced, prepare: func(c *conn) { c.to = [6]byte{255, 255, 255, 255, 255, 255} }},
		"inbound policy":     {verdict: forced, policy: tables.PolicySettings{Direction: tables.Inbound}},
		"other backend": {verdict: forced, prepare: func(c *conn) {
			c.backend = netip.AddrPortFrom(c.backend.Addr().Next(), c.backend.Port())
		}},
		"policy that exempts clients": {verdict: forced, policy: tables.PolicySettings{ExemptSome: true}},
		"an L3 device": {verdict: forced, prepare: func(c *conn) {
			c.out, c.in, c.l3 = c.r.program("ingress_l3"), c.r.program("egress_l3"), true
		}},
	} {
		for _, how := range []tables.Reject{tables.Respond, tables.Reset, tables.Drop} {
			s := tc.policy
			s.Reject = how
			t.Run(name+"/"+[]string{"respond", "reset", "drop"}[how], func(t *testing.T) {
				at(t, entries[:1], s, tc.verdict, func(_ *testing.T, c *conn) {
					if tc.prepare != nil {
						tc.prepare(c)
					}
					c.passed(c.send(syn, ""), "ingress", "foreign")
					c.r.wantTotals(want{})
				})
			})
		}
	}
}

func TestEntryRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		policy  tables.PolicySettings
		verdict ledger.Verdict
		reason  string
		uplink  bool
	}{
		"open":                    {verdict: openFor(time.Minute), reason: "open"},
		"forced-open":             {verdict: ledger.Verdict{Kind: ledger.ForcedOpen}, reason: "forced-open"},
		"tcp":                     {verdict: openFor(time.Minute), reason: "open", policy: tables.PolicySettings{Protocol: tables.TCP}},
		"inbound, from an uplink": {verdict: openFor(time.Minute), reason: "open", policy: tables.PolicySettings{Direction: tables.Inbound}, uplink: true},
	} {
		for how, action := range map[tables.Reject]string{tables.Reset: "reset", tables.Drop: "drop"} {
			s := tc.policy
			s.Reject = how
			t.Run(name+"/"+action, func(t *testing.T) {
				at(t, entries, s, tc.verdict, func(_ *testing.T, c *conn) {
					if tc.uplink {
						c.ctx.IngressIfindex = uplinkIndex
					}
					res := c.send(syn, "")
					if how == tables.Drop {
						c.did(res, verdictDrop, "ingress drop "+tc.reason)
					} else {
						c.did(res, verdictRedirect, "ingress reset "+tc.reason)
						c.is(res.segment, rst|ack, 0, c.seq, nil)
					}
					c.r.wantTotals(want{Rejected: map[string]uint64{tc.reason + " " + action: 1}})
				})
			})
		}
	}
}

// A connection that was let in before stays the egress hook's, its repeated SYN and its requests.
func TestEntryLeavesFollowedConnections(t *testing.T) {
	at(t, entries, tables.PolicySettings{Reject: tables.Respond, Existing: true}, ledger.Verdict{Kind: ledger.Closed}, func(_ *testing.T, c *conn) {
		egress, ingress := *c, *c
		egress.out, egress.in, egress.hookOut, egress.hookIn = c.in, c.out, "egress", "ingress"
		egress.passed(egress.send(syn, ""), "egress", "admitted")
		c.r.d.SetVerdict(1, openFor(time.Minute))
		ingress.passed(ingress.send(syn, ""), "ingress", "foreign")

		// Another client is answered at the entry, so that the program parses more than SYNs there.
		other := *c
		other.client = netipPort(c.client, 41000)
		other.answeredSYN("open")

		egress.ack, ingress.ack = 5000, 5000
		egress.passed(egress.recv(syn|ack, ""), "ingress", "flow")
		ingress.ack = egress.ack
		ingress.passed(ingress.send(psh|ack, get), "ingress", "foreign")
		res := egress.send(psh|ack, get)
		egress.did(res, verdictRedirect, "egress respond open")
		// The rest of what was answered at egress goes there as well.
		ingress.passed(ingress.send(fin|ack, ""), "ingress", "foreign")
		c.r.wantTotals(want{Rejected: map[string]uint64{"open respond": 1}})
	})
}

// Ports of a refused connection that are used again once the circuit has closed belong to the new one.
func TestEntryForgetsWhenPortsAreUsedAgain(t *testing.T) {
	at(t, entries, tables.PolicySettings{Reject: tables.Respond}, openFor(time.Minute), func(_ *testing.T, c *conn) {
		c.answeredSYN("open")
		c.did(c.send(psh|ack, get), verdictRedirect, "ingress respond open")
		c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Closed, Generation: 2})
		c.passed(c.send(syn, ""), "ingress", "foreign")
		c.ack = 7000
		c.passed(c.send(ack, ""), "ingress", "foreign")
		c.passed(c.send(psh|ack, get), "ingress", "foreign")
		c.r.wantTotals(want{Rejected: map[string]uint64{"open respond": 1}})
	})
}

// A SYN that the egress hook answered, of a half-open circuit, may be followed at either.
func TestEntryKnowsAnswersOfEgress(t *testing.T) {
	at(t, entries, tables.PolicySettings{Reject: tables.Respond}, halfOpen(1, 1), func(_ *testing.T, c *conn) {
		taker := *c
		taker.client = netipPort(c.client, 41000)
		taker.out, taker.hookOut = c.in, "egress"
		taker.passed(taker.send(syn, ""), "egress", "probe")

		late := *c
		late.out, late.in, late.hookOut, late.hookIn = c.in, c.out, "egress", "ingress"
		late.answeredSYN("half-open")

		c.r.d.SetVerdict(1, openFor(time.Minute))
		other := *c
		other.client = netipPort(c.client, 42000)
		other.answeredSYN("open")

		c.seq, c.ack = late.seq, late.ack
		res := c.send(psh|ack, get)
		c.did(res, verdictRedirect, "ingress respond half-open")
		c.isAnswer(res.segment, c.ack, c.seq, nil, unavailable, "half-open", "not now: half-open")
	})
}
