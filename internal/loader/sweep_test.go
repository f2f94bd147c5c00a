package loader

import (
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

func TestSweep(t *testing.T) {
	const idle = time.Hour
	policy := tables.PolicySettings{Timeout: 30 * time.Second, ConnectTimeout: 3 * time.Second, Existing: true}
	tcp := policy
	tcp.Protocol, tcp.Reject = tables.TCP, tables.Reset
	never := tables.PolicySettings{Existing: true}
	for _, tc := range []struct {
		name   string
		policy tables.PolicySettings
		before func(c *conn)
		after  time.Duration
		gone   bool // the flow is forgotten
		want   want
		then   func(c *conn)
		end    want
	}{
		{"a request that may wait", policy, func(c *conn) { c.open().ask(get) }, 29 * time.Second, false,
			want{Connections: 1, InFlight: 1, Admitted: 1},
			func(c *conn) { c.answer(ok) },
			want{Connections: 1, Admitted: 1, Judged: 1, Outcomes: map[string]uint64{"2xx": 1}}},
		{"a request that hangs", policy, func(c *conn) { c.open().ask(get) }, 30 * time.Second, false,
			want{Connections: 1, Admitted: 1, Judged: 1, Failures: 1, Outcomes: map[string]uint64{"timeout": 1}},
			func(c *conn) {
				c.answer(ok) // too late: the outcome is reported already
				c.ask(get)
				c.answer(ok)
			},
			want{Connections: 1, Admitted: 2, Judged: 2, Failures: 1, Outcomes: map[string]uint64{"timeout": 1, "2xx": 1}}},
		{"a response that begins and hangs", policy, func(c *conn) {
			c.open().ask(get)
			c.answer("HTTP/1.1 2")
		}, 30 * time.Second, false,
			want{Connections: 1, Admitted: 1, Judged: 1, Failures: 1, Outcomes: map[string]uint64{"timeout": 1}}, nil, want{}},
		{"a client that has half-closed, and waits in vain", policy, func(c *conn) {
			c.open().ask(get)
			c.passed(c.send(fin|ack, ""), c.hookOut, "flow")
		}, 30 * time.Second, false,
			want{Connections: 1, Admitted: 1, Judged: 1, Failures: 1, Outcomes: map[string]uint64{"timeout": 1}}, nil, want{}},
		{"a request whose responses go another way", policy, func(c *conn) {
			c.passed(c.send(syn, ""), c.hookOut, "admitted")
			c.passed(c.send(ack, ""), c.hookOut, "flow")
			c.ask(get)
		}, 30 * time.Second, false,
			want{Connections: 1, Admitted: 1, Unjudged: 1, Outcomes: map[string]uint64{"unknown": 1}}, nil, want{}},
		{"no timeout", never, func(c *conn) { c.open().ask(get) }, idle - time.Second, false,
			want{Connections: 1, InFlight: 1, Admitted: 1}, nil, want{}},
		{"no timeout, silent for too long", never, func(c *conn) { c.open().ask(get) }, idle + time.Second, true,
			want{Admitted: 1, Unjudged: 1, Outcomes: map[string]uint64{"unknown": 1}}, nil, want{}},
		{"a SYN that may wait", policy, func(c *conn) { c.send(syn, "") }, 2 * time.Second, false,
			want{Connections: 1}, func(c *conn) {
				c.passed(c.recv(syn|ack, ""), c.hookIn, "flow")
			}, want{Connections: 1}},
		{"a SYN without an answer", policy, func(c *conn) { c.send(syn, "") }, 3 * time.Second, false,
			want{Judged: 1, Failures: 1, Outcomes: map[string]uint64{"connect-timeout": 1}},
			func(c *conn) {
				c.ack = 5000
				c.passed(c.recv(syn|ack, ""), c.hookIn, "flow") // late, but welcome
				c.ask(get)
				c.answer(ok)
			},
			want{
				Connections: 1, Admitted: 1, Judged: 2, Failures: 1, Outcomes: map[string]uint64{"connect-timeout": 1, "2xx": 1},
			}},
		{"a SYN without an answer, and then refused", policy, func(c *conn) { c.send(syn, "") }, 3 * time.Second, false,
			want{Judged: 1, Failures: 1, Outcomes: map[string]uint64{"connect-timeout": 1}},
			func(c *conn) { c.passed(c.recvAt(0, rst|ack, ""), c.hookIn, "flow") },
			want{Judged: 1, Failures: 1, Outcomes: map[string]uint64{"connect-timeout": 1}}},
		{"a SYN without an answer, tcp", tcp, func(c *conn) { c.send(syn, "") }, 3 * time.Second, false,
			want{Admitted: 1, Judged: 1, Failures: 1, Outcomes: map[string]uint64{"connect-timeout": 1}},
			func(c *conn) {
				c.ack = 5000
				c.passed(c.recv(syn|ack, ""), c.hookIn, "flow")
				c.passed(c.send(ack, ""), c.hookOut, "flow")
			},
			want{Connections: 1, Admitted: 1, Judged: 1, Failures: 1, Outcomes: map[string]uint64{"connect-timeout": 1}}},
		{"a connect() that was given up", policy, func(c *conn) { c.send(syn, "") }, 71 * time.Second, false,
			want{Judged: 1, Failures: 1, Outcomes: map[string]uint64{"connect-timeout": 1}},
			func(c *conn) { c.r.sweepAt(tables.Now()+int64(71*time.Second), idle) },
			want{Judged: 1, Failures: 1, Outcomes: map[string]uint64{"connect-timeout": 1}}},
		{"no connect timeout", never, func(c *conn) { c.send(syn, "") }, 69 * time.Second, false,
			want{Connections: 1}, nil, want{}},
		{"no connect timeout, silent for too long", never, func(c *conn) { c.send(syn, "") }, 71 * time.Second, true,
			want{Unjudged: 1, Outcomes: map[string]uint64{"unknown": 1}}, nil, want{}},
		{"idle", policy, func(c *conn) { c.open() }, idle - time.Second, false, want{Connections: 1}, nil, want{}},
		{"idle for too long", policy, func(c *conn) { c.open() }, idle + time.Second, true, want{}, nil, want{}},
		{"closed by the client alone", policy, func(c *conn) {
			c.open()
			c.send(fin|ack, "")
		}, 119 * time.Second, false, want{Connections: 1}, nil, want{}},
		{"closed by the client alone, silent for too long", policy, func(c *conn) {
			c.open()
			c.send(fin|ack, "")
		}, 121 * time.Second, true, want{}, nil, want{}},
		{"closed by the backend alone, silent for too long", policy, func(c *conn) {
			c.open()
			c.recv(fin|ack, "")
		}, 121 * time.Second, true, want{}, nil, want{}},
		{"closed by the backend, and the request hangs", policy, func(c *conn) {
			c.open().ask(get)
			c.passed(c.send(fin|ack, ""), c.hookOut, "flow")
			// In place of the response something that is lost, and a FIN after it.
			c.passed(c.recvAt(c.ack+100, fin|ack, ""), c.hookIn, "flow")
		}, 30 * time.Second, false,
			want{Connections: 1, Admitted: 1, Judged: 1, Failures: 1, Outcomes: map[string]uint64{"timeout": 1}}, nil, want{}},
		{"a handshake that may last", policy, func(c *conn) {
			c.send(syn, "")
			c.recv(syn|ack, "")
		}, 2 * time.Second, false,
			want{Connections: 1}, func(c *conn) { c.ask(get) }, want{Connections: 1, InFlight: 1, Admitted: 1}},
		{"a handshake that the client does not complete", policy, func(c *conn) {
			c.send(syn, "")
			c.recv(syn|ack, "")
		}, 3 * time.Second, false,
			want{},
			func(c *conn) {
				c.passed(c.send(ack, ""), c.hookOut, "flow") // late: it takes a place again
				c.ask(get)
				c.answer(ok)
			},
			want{Connections: 1, Admitted: 1, Judged: 1, Outcomes: map[string]uint64{"2xx": 1}}},
		{"a handshake that the client never completes", policy, func(c *conn) {
			c.send(syn, "")
			c.recv(syn|ack, "")
		}, 71 * time.Second, false,
			want{}, func(c *conn) { c.r.sweepAt(tables.Now()+int64(71*time.Second), idle) }, want{}},
		{"a handshake without a connect timeout", never, func(c *conn) {
			c.send(syn, "")
			c.recv(syn|ack, "")
		}, 74 * time.Second, false, want{Connections: 1}, nil, want{}},
		{"a handshake without a connect timeout, not completed", never, func(c *conn) {
			c.send(syn, "")
			c.recv(syn|ack, "")
		}, 76 * time.Second, false, want{}, nil, want{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			everywhere(t, tc.policy, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
				c.ack = 5000
				tc.before(c)
				f, found := c.r.flow(c.client, c.backend)
				if !found {
					t.Fatal("the connection is not followed")
				}
				// Ages count from when the request was sent, silence from the last packet (on a coarser clock).
				at := int64(f.Request.Sent)
				if tc.after > time.Minute {
					at = int64(f.LastSeen)
				}
				left := c.r.sweepAt(at+int64(tc.after), idle)
				c.r.counted()
				c.r.wantTotals(tc.want)
				if _, found := c.r.flow(c.client, c.backend); found == tc.gone {
					t.Errorf("the connection is followed: %t", found)
				}
				if n := int(c.r.d.NodeCounts().Flows); n != left && !(tc.gone && n == 0) {
					t.Errorf("%d connections are followed, the sweep saw %d", n, left)
				}
				if tc.then != nil {
					tc.then(c)
					c.r.wantTotals(tc.end)
				}
			})
		})
	}
}

func TestProbeThatHangs(t *testing.T) {
	policy := tables.PolicySettings{Timeout: 30 * time.Second, ConnectTimeout: 3 * time.Second, Existing: true}
	for _, connected := range []bool{false, true} {
		everywhere(t, policy, halfOpen(1, 1), func(t *testing.T, c *conn) {
			w := want{Probes: 1, Judged: 1, Failures: 1, Permits: 1, Outcomes: map[string]uint64{"connect-timeout": 1}}
			event := "outcome 3 judged 0 failure permit generation 2"
			if connected {
				c.connect("probe")
				c.passed(c.send(psh|ack, get), c.hookOut, "probe")
				w.Connections, w.Admitted, w.Outcomes = 1, 1, map[string]uint64{"timeout": 1}
				event = "outcome 5 judged 0 failure permit generation 2"
			} else {
				c.passed(c.send(syn, ""), c.hookOut, "probe")
			}
			c.r.sweepAt(tables.Now()+int64(40*time.Second), time.Hour)
			c.r.wantTotals(w)
			c.r.wantEvents("probe permit generation 2", event)
			c.r.sweepAt(tables.Now()+int64(60*time.Second), time.Hour)
			c.r.wantTotals(w)
		})
	}
}

// A sweep says when the next is needed.
func TestSweepSaysWhenTheNextTimeOutIsDue(t *testing.T) {
	policy := tables.PolicySettings{Timeout: 30 * time.Second, ConnectTimeout: 3 * time.Second, Existing: true}
	everywhere(t, policy, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
		due := func(want int64) {
			t.Helper()
			res, err := c.r.d.Sweep(time.Hour)
			if err != nil || res.Due != want {
				t.Errorf("due at %d, %v; expected %d", res.Due, err, want)
			}
		}
		started := func(o *conn) int64 {
			t.Helper()
			f, found := c.r.flow(o.client, o.backend)
			if !found {
				t.Fatal("the connection is not followed")
			}
			return int64(f.Request.Sent)
		}
		due(0)
		c.open()
		due(0)
		c.ask(get)
		due(started(c) + int64(30*time.Second))
		opening := c.another(42000)
		opening.passed(opening.send(syn, ""), opening.hookOut, "admitted")
		due(started(opening) + int64(3*time.Second))
		opening.ack = 5000
		opening.passed(opening.recv(syn|ack, ""), opening.hookIn, "flow")
		due(started(opening) + int64(3*time.Second))
		opening.passed(opening.send(ack, ""), opening.hookOut, "flow")
		due(started(c) + int64(30*time.Second))
		c.answer(ok)
		due(0)
	})
}

// The oldest request of the circuit's generation is what pendingAge looks at.
func TestSweepFindsTheOldestPendingRequest(t *testing.T) {
	everywhere(t, tables.PolicySettings{Existing: true}, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
		pending := func() (int64, bool) {
			t.Helper()
			res, err := c.r.d.Sweep(time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			return c.r.d.Pending(1, res.Number)
		}
		if _, found := pending(); found {
			t.Error("a request is pending although there is none")
		}
		var conns []*conn
		for port := uint16(41000); port < 41010; port++ {
			o := c.another(port)
			o.open().ask(get)
			conns = append(conns, o)
		}
		for i, o := range conns {
			f, _ := c.r.flow(o.client, o.backend)
			if since, found := pending(); !found || since != int64(f.Request.Sent) {
				t.Errorf("the oldest of %d was sent at %d, %t; expected %d", len(conns)-i, since, found, f.Request.Sent)
			}
			o.answer(ok)
		}
		if _, found := pending(); found {
			t.Error("a request is pending although all are answered")
		}
		opening := c.another(42000)
		opening.passed(opening.send(syn, ""), opening.hookOut, "admitted")
		f, _ := c.r.flow(opening.client, opening.backend)
		if since, found := pending(); !found || since != int64(f.Request.Sent) {
			t.Errorf("an attempt to connect was begun at %d, %t; expected %d", since, found, f.Request.Sent)
		}
		opening.ack = 5000
		opening.passed(opening.recv(syn|ack, ""), opening.hookIn, "flow")
		opening.passed(opening.send(ack, ""), opening.hookOut, "flow")
		if _, found := pending(); found {
			t.Error("an attempt to connect is pending although it was answered")
		}
		conns[0].ask(get)
		c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Closed, Generation: 2})
		if _, found := pending(); found {
			t.Error("a request of an earlier generation is pending")
		}
	})
}

func TestForgetInterface(t *testing.T) {
	everywhere(t, tables.PolicySettings{}, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
		c.ctx.IngressIfindex = 5
		c.open().ask(get)
		other := c.another(41000)
		other.ctx.IngressIfindex = 6
		other.open()
		for _, step := range []struct{ ifindex, left int }{{4, 2}, {5, 1}, {c.r.ifindex, 0}} {
			res, err := c.r.d.ForgetInterface(step.ifindex, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			if n := c.r.d.NodeCounts().Flows; res.Flows != step.left || n != uint64(step.left) {
				t.Errorf("after interface %d went: %d connections, the sweep says %d; expected %d", step.ifindex, n, res.Flows, step.left)
			}
		}
		c.r.wantTotals(want{Admitted: 1, Unjudged: 1, Outcomes: map[string]uint64{"unknown": 1}})
	})
}

// A SYN without an answer must not keep its place for ever, and one that is answered needs a place.
func TestConnectTimeoutGivesItsPlaceBack(t *testing.T) {
	policy := tables.PolicySettings{MaxConnections: 1, ConnectTimeout: 3 * time.Second}
	everywhere(t, policy, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
		s := c.segment(syn, "")
		s.options = mssOption(1460)
		c.passed(c.send(syn, ""), c.hookOut, "admitted")
		other := c.another(41000)
		other.answeredSYN("connection-limit")
		c.r.sweepAt(tables.Now()+int64(4*time.Second), time.Hour)
		w := want{Judged: 1, Failures: 1, Outcomes: map[string]uint64{"connect-timeout": 1}}
		c.r.wantTotals(w)

		c.passed(c.put(c.out, s, c.ctx), c.hookOut, "flow")
		other = c.another(41001)
		other.open()
		c.did(c.put(c.out, s, c.ctx), c.answers, c.hookOut+" respond connection-limit")
		other.end()
		c.passed(c.put(c.out, s, c.ctx), c.hookOut, "admitted")
		w.Connections = 1
		c.r.wantTotals(w)
	})
}

// A response that comes after the client's FIN waits for the client's reaction: a RST, or none for REACTION_TIMEOUT.
func TestSweepEndsLateResponses(t *testing.T) {
	late := func(c *conn) (responded int64) {
		c.open().ask(get)
		c.passed(c.send(fin|ack, ""), c.hookOut, "flow")
		c.passed(c.recv(psh|ack, ok), c.hookIn, "flow")
		c.passed(c.recv(fin|ack, ""), c.hookIn, "flow")
		c.r.wantTotals(want{Connections: 1, InFlight: 1, Admitted: 1})
		f, _ := c.r.flow(c.client, c.backend)
		return int64(f.Request.Responded)
	}
	t.Run("no reaction", func(t *testing.T) {
		everywhere(t, tables.PolicySettings{}, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
			// Both sides have closed: nothing is left to wait for.
			c.r.sweepAt(late(c)+int64(2*time.Second), time.Hour)
			if n := c.r.d.NodeCounts().Flows; n != 0 {
				t.Errorf("%d connections are left", n)
			}
			c.r.wantTotals(outcomes(1, 1, 0, "2xx"))
		})
	})
	t.Run("during the sweep", func(t *testing.T) {
		everywhere(t, tables.PolicySettings{}, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
			c.r.sweepAt(late(c)-1, time.Hour)
			c.r.wantTotals(want{Connections: 1, InFlight: 1, Admitted: 1})
			c.passed(c.send(rst, ""), c.hookOut, "flow")
			c.r.wantTotals(outcomes(1, 0, 0, "aborted"))
		})
	})
}
