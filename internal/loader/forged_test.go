package loader

import (
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// Packets of an attacker who knows the addresses and ports of a connection, but not its sequence numbers, change nothing.
func TestForgedPackets(t *testing.T) {
	const out = "out-of-sequence"
	far := []uint32{100, 1 << 20, 1 << 29, 1 << 31, ^uint32(99)}
	checkOutcomes(t, tables.PolicySettings{Existing: true}, []outcomeCase{
		{"a RST of the backend to a SYN", func(c *conn) {
			c.passed(c.send(syn, ""), c.hookOut, "admitted")
			seq := c.seq
			for _, d := range far {
				c.seq = seq + d
				c.passed(c.recvAt(0, rst|ack, ""), c.hookIn, out)
			}
			c.seq = seq
			c.passed(c.recvAt(seq, rst, ""), c.hookIn, out) // acknowledges nothing
			c.ack = 5000
			c.passed(c.recv(syn|ack, ""), c.hookIn, "flow")
			c.ask(get)
			c.answer(ok)
			c.end()
		}, outcomes(1, 1, 0, "2xx")},
		{"a SYN-ACK to a SYN", func(c *conn) {
			c.passed(c.send(syn, ""), c.hookOut, "admitted")
			seq := c.seq
			for _, d := range far {
				c.seq = seq + d
				c.passed(c.recvAt(777, syn|ack, ""), c.hookIn, out)
			}
			c.seq = seq
			c.passed(c.recvAt(0, rst|ack, ""), c.hookIn, "flow")
		}, outcomes(0, 1, 1, "connect-refused")},
		{"data and a FIN before the SYN-ACK", func(c *conn) {
			c.passed(c.send(syn, ""), c.hookOut, "admitted")
			c.passed(c.recvAt(777, psh|ack, ok), c.hookIn, out)
			c.passed(c.recvAt(777, fin|ack, ""), c.hookIn, out)
			c.ack = 5000
			c.passed(c.recv(syn|ack, ""), c.hookIn, "flow")
			c.ask(get)
			c.answer(ok)
			c.end()
		}, outcomes(1, 1, 0, "2xx")},
		{"an ACK that completes no handshake", func(c *conn) {
			c.passed(c.send(syn, ""), c.hookOut, "admitted")
			c.ack = 5000
			c.passed(c.recv(syn|ack, ""), c.hookIn, "flow")
			right := c.ack
			for _, d := range far {
				c.ack = right + d
				c.passed(c.put(c.out, c.segment(ack, ""), c.ctx), c.hookOut, out)
				c.passed(c.put(c.out, c.segment(psh|ack, get), c.ctx), c.hookOut, out)
			}
			c.ack = right
			c.passed(c.send(ack, ""), c.hookOut, "flow")
			c.end()
		}, outcomes(0, 0, 0)},
		{"RSTs of the backend while a request waits", func(c *conn) {
			c.open().ask(get)
			for _, d := range far {
				c.passed(c.recvAt(c.ack+d, rst|ack, ""), c.hookIn, out)
				c.passed(c.recvAt(c.ack+d, rst, ""), c.hookIn, out)
			}
			c.answer(ok)
			c.end()
		}, outcomes(1, 1, 0, "2xx")},
		{"RSTs of the client while a request waits", func(c *conn) {
			c.open().ask(get)
			seq := c.seq
			for _, d := range far {
				c.seq = seq + d
				c.passed(c.put(c.out, c.segment(rst|ack, ""), c.ctx), c.hookOut, out)
				c.passed(c.put(c.out, c.segment(rst, ""), c.ctx), c.hookOut, out)
			}
			c.seq = seq
			c.answer(failed)
			c.end()
		}, outcomes(1, 1, 1, "5xx")},
		{"data of the backend, and an ACK of it, while a request waits", func(c *conn) {
			c.open().ask(get)
			seq, next := c.seq, c.ack
			for _, d := range []uint32{1 << 20, 1 << 29} {
				c.seq = seq + d // acknowledges what the client has not sent
				c.passed(c.recvAt(next+d, psh|ack, ok), c.hookIn, "flow")
				c.seq = seq
				s := c.segment(ack, "")
				s.ack = next + d + 1
				c.passed(c.put(c.out, s, c.ctx), c.hookOut, "flow")
			}
			c.answer(failed)
			c.end()
		}, outcomes(1, 1, 1, "5xx")},
		{"FINs of both sides while a request waits", func(c *conn) {
			c.open().ask(get)
			for _, d := range far {
				c.passed(c.recvAt(c.ack+d, fin|ack, ""), c.hookIn, "flow")
				s := c.segment(fin|ack, "")
				s.seq += d
				c.passed(c.put(c.out, s, c.ctx), c.hookOut, "flow")
			}
			c.answer(failed)
			c.ask(get)
			c.answer(ok)
			c.end()
		}, outcomes(2, 2, 1, "5xx", "2xx")},
		{"data of the client while a request waits", func(c *conn) {
			c.open().ask(get)
			seq, right := c.seq, c.ack
			for _, d := range far {
				if d >= 1<<31 {
					continue // of the past: a retransmission
				}
				c.seq, c.ack = seq+d, right+1<<20
				c.passed(c.put(c.out, c.segment(psh|ack, get), c.ctx), c.hookOut, out)
			}
			c.seq, c.ack = seq, right
			c.answer(ok)
			c.ask(get)
			c.answer(failed)
			c.end()
		}, outcomes(2, 2, 1, "2xx", "5xx")},
		{"ACKs of the backend for what was never sent", func(c *conn) {
			c.open().ask("POST / HTTP/1.1\r\n\r\n")
			c.answer(ok)
			seq := c.seq
			for _, d := range far {
				c.seq = seq + d
				c.passed(c.recvAt(c.ack, ack, ""), c.hookIn, "flow")
			}
			// A part of the body, after a gap: the missing bytes are not acknowledged.
			s := c.segment(psh|ack, get)
			c.seq = seq
			s.seq = seq + 100
			c.passed(c.put(c.out, s, c.ctx), c.hookOut, "flow")
			c.end()
		}, outcomes(1, 1, 0, "2xx")},
		{"a RST that answers the request", func(c *conn) {
			c.open().ask(get)
			c.passed(c.recvAt(c.ack, rst, ""), c.hookIn, "flow")
		}, outcomes(1, 1, 1, "reset")},
		{"a request on a connection that does not exist", func(c *conn) {
			c.ack = 7000
			c.ask(get)
			c.passed(c.recvAt(c.ack, rst, ""), c.hookIn, "flow")
		}, outcomes(1, 0, 0, "unknown")},
		{"a request on a connection that is older than the agent", func(c *conn) {
			c.ack = 7000
			c.ask(get)
			c.passed(c.recv(ack, ""), c.hookIn, "flow")
			c.passed(c.recv(rst|ack, ""), c.hookIn, "flow")
		}, outcomes(1, 1, 1, "reset")},
		{"a RST after a part of the response", func(c *conn) {
			c.open().ask(get)
			c.answer("HTTP/1.1 2")
			c.passed(c.recv(rst|ack, ""), c.hookIn, "flow")
		}, outcomes(1, 1, 1, "reset")},
		{"a RST after the FIN", func(c *conn) {
			c.open().ask(get)
			c.answer(ok)
			c.passed(c.recv(fin|ack, ""), c.hookIn, "flow")
			c.passed(c.recv(rst|ack, ""), c.hookIn, "flow")
		}, outcomes(1, 1, 0, "2xx")},
		{"a RST of the client after its FIN", func(c *conn) {
			c.open().ask(get)
			c.passed(c.send(fin|ack, ""), c.hookOut, "flow")
			c.passed(c.send(rst, ""), c.hookOut, "flow")
		}, outcomes(1, 0, 0, "aborted")},
	})
}

// A client that completes its handshake after its place was given back may go on while there is one for it.
func TestLateHandshake(t *testing.T) {
	for _, tc := range []struct {
		name  string
		taken bool
	}{{"with a free place", false}, {"without one", true}} {
		t.Run(tc.name, func(t *testing.T) {
			s := tables.PolicySettings{Existing: true, MaxConnections: 1, ConnectTimeout: 3 * time.Second}
			everywhere(t, s, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
				c.passed(c.send(syn, ""), c.hookOut, "admitted")
				c.ack = 5000
				c.passed(c.recv(syn|ack, ""), c.hookIn, "flow")
				c.r.sweepAt(tables.Now()+int64(3*time.Second), time.Hour)
				c.r.wantTotals(want{})
				if !tc.taken {
					c.passed(c.send(ack, ""), c.hookOut, "flow")
					c.r.wantTotals(want{Connections: 1})
					return
				}
				other := *c
				other.client, other.seq = netipPort(c.client, c.client.Port()+1), 3000
				other.open()
				res := c.send(ack, "")
				c.did(res, c.answers, c.hookOut+" reset connection-limit")
				if res.segment.flags&rst == 0 || res.segment.seq != c.ack {
					t.Errorf("the client got %s, expected a RST with number %d", res.segment, c.ack)
				}
				if len(res.sent) != 1 || res.sent[0].flags&rst == 0 {
					t.Errorf("the backend got %v, expected a RST", res.sent)
				}
				c.r.wantTotals(want{Connections: 1, Rejected: map[string]uint64{"connection-limit reset": 1}})
			})
		})
	}
}

// The permit of a handshake that is not completed in time is free for another.
func TestHandshakeKeepsNoPermit(t *testing.T) {
	v := ledger.Verdict{Kind: ledger.Open, Generation: 1, Until: tables.Now() - 1, Calls: 1, Concurrent: 1}
	everywhere(t, tables.PolicySettings{ConnectTimeout: 3 * time.Second}, v, func(t *testing.T, c *conn) {
		c.passed(c.send(syn, ""), c.hookOut, "probe")
		c.ack = 5000
		c.passed(c.recv(syn|ack, ""), c.hookIn, "flow")
		c.r.wantTotals(want{Connections: 1, Probes: 1, Permits: 1, PermitsOut: 1})
		c.r.sweepAt(tables.Now()+int64(3*time.Second), time.Hour)
		c.r.wantTotals(want{Probes: 1})
		if events := c.r.events(); len(events) != 2 || events[1].Kind != ledger.EventReturn {
			t.Errorf("events %+v, expected a probe and its return", events)
		}
	})
}
