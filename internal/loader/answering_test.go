package loader

import (
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// What follows a SYN that the kernel answered is looked for until two minutes after the last of these SYNs.
func TestHowLongAnsweredSYNsAreRemembered(t *testing.T) {
	const remembered = 2 * time.Minute
	at(t, []place{places[0], entries[0]}, tables.PolicySettings{Reject: tables.Respond}, openFor(time.Minute), func(t *testing.T, c *conn) {
		before := tables.Now()
		c.answeredSYN("open")
		after := tables.Now()
		until := func() uint64 { return element[bpf.CCircuit](t, c.r.d.objs.Circuits, 1).AnsweringUntil }
		// The programs read a clock that may be a timer tick (10 ms) behind.
		earliest, latest := before+int64(remembered-10*time.Millisecond), after+int64(remembered)
		if at := int64(until()); at < earliest || at > latest {
			t.Errorf("remembered for %s, want %s", time.Duration(at-before), remembered)
		}
		// Written again at most once a second.
		written := until()
		c.another(41000).answeredSYN("open")
		if until() != written {
			t.Errorf("moved by %s within a second", time.Duration(until()-written))
		}
		change(t, c.r.d.objs.Circuits, 1, func(c *bpf.CCircuit) { c.AnsweringUntil -= uint64(2 * time.Second) })
		c.another(41001).answeredSYN("open")
		if until() < written {
			t.Error("not moved after more than a second")
		}
	})
}

// Once that time is over a packet that acknowledges the kernel's SYN-ACK is a packet like any other.
func TestAnsweredSYNIsForgotten(t *testing.T) {
	at(t, places[:1], tables.PolicySettings{Reject: tables.Respond}, openFor(time.Minute), func(_ *testing.T, c *conn) {
		for port, left := range map[uint16]time.Duration{41000: time.Second, 41001: -time.Second} {
			o := c.another(port)
			c.r.d.SetVerdict(1, openFor(time.Minute))
			o.answeredSYN("open")
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Closed, Generation: 2})
			change(c.r.t, c.r.d.objs.Circuits, 1, func(c *bpf.CCircuit) { c.AnsweringUntil = uint64(tables.Now() + int64(left)) })
			if left > 0 {
				o.did(o.send(psh|ack, get), o.answers, o.hookOut+" respond open")
			} else {
				o.passed(o.send(psh|ack, get), o.hookOut, "admitted")
			}
		}
	})
}
