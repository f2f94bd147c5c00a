package loader

import (
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/ledger"
)

// What follows a SYN that the kernel answered is looked for until two minutes after the last of these SYNs.
func TestHowLongAnsweredSYNsAreRemembered(t *testing.T) {
	const remembered = 2 * time.Minute
	at(t, []place{places[0], entries[0]}, PolicySettings{Reject: Respond}, openFor(time.Minute), func(t *testing.T, c *conn) {
		before := Now()
		c.answeredSYN("open")
		after := Now()
		circuit := &c.r.d.circuits.vals[1]
		// The programs read a clock that may be a timer tick (10 ms) behind.
		earliest, latest := before+int64(remembered-10*time.Millisecond), after+int64(remembered)
		if until := int64(circuit.AnsweringUntil); until < earliest || until > latest {
			t.Errorf("remembered for %s, want %s", time.Duration(until-before), remembered)
		}
		// Written again at most once a second.
		written := circuit.AnsweringUntil
		c.another(41000).answeredSYN("open")
		if circuit.AnsweringUntil != written {
			t.Errorf("moved by %s within a second", time.Duration(circuit.AnsweringUntil-written))
		}
		circuit.AnsweringUntil -= uint64(2 * time.Second)
		c.another(41001).answeredSYN("open")
		if circuit.AnsweringUntil < written {
			t.Error("not moved after more than a second")
		}
	})
}

// Once that time is over a packet that acknowledges the kernel's SYN-ACK is a packet like any other.
func TestAnsweredSYNIsForgotten(t *testing.T) {
	at(t, places[:1], PolicySettings{Reject: Respond}, openFor(time.Minute), func(_ *testing.T, c *conn) {
		for port, left := range map[uint16]time.Duration{41000: time.Second, 41001: -time.Second} {
			o := c.another(port)
			c.r.d.SetVerdict(1, openFor(time.Minute))
			o.answeredSYN("open")
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Closed, Generation: 2})
			c.r.d.circuits.vals[1].AnsweringUntil = uint64(Now() + int64(left))
			if left > 0 {
				o.did(o.send(psh|ack, get), o.answers, o.hookOut+" respond open")
			} else {
				o.passed(o.send(psh|ack, get), o.hookOut, "admitted")
			}
		}
	})
}
