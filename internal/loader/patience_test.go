package loader

import (
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// waited makes the connection's request one that was sent so long ago.
func (c *conn) waited(d time.Duration) {
	c.r.t.Helper()
	f, found := c.r.flow(c.client, c.backend)
	if !found {
		c.r.t.Fatal("the connection is not followed")
	}
	f.Request.Sent -= uint64(d)
	if err := c.r.d.objs.Flows.Update(flowKey(c.client, c.backend), &f, ebpf.UpdateExist); err != nil {
		c.r.t.Fatal(err)
	}
}

// A client that leaves has lost its patience, or is none of the backend's business.
func TestClientLeaves(t *testing.T) {
	const patience = 2 * time.Second
	leave := map[string]func(c *conn){
		"FIN": func(c *conn) { c.passed(c.send(fin|ack, ""), c.hookOut, "flow") },
		"RST": func(c *conn) { c.passed(c.send(rst|ack, ""), c.hookOut, "flow") },
		"FIN, and a RST to the response": func(c *conn) {
			c.passed(c.send(fin|ack, ""), c.hookOut, "flow")
			c.answer(ok)
			c.passed(c.send(rst, ""), c.hookOut, "flow")
		},
		"FIN, and the backend closes": func(c *conn) {
			c.passed(c.send(fin|ack, ""), c.hookOut, "flow")
			c.passed(c.recv(fin|ack, ""), c.hookIn, "flow")
		},
		"FIN, and the backend resets": func(c *conn) {
			c.passed(c.send(fin|ack, ""), c.hookOut, "flow")
			c.passed(c.recv(rst|ack, ""), c.hookIn, "flow")
		},
	}
	for name, left := range leave {
		for _, tc := range []struct {
			name     string
			patience time.Duration
			waited   time.Duration
			outcome  string
		}{
			{"early", patience, patience - time.Second, "aborted"},
			{"late", patience, patience, "abandoned"},
			{"late, with endless patience", 0, time.Hour, "aborted"},
		} {
			if name == "FIN" && tc.outcome == "aborted" {
				continue // it may have closed one direction only
			}
			t.Run(name+"/"+tc.name, func(t *testing.T) {
				everywhere(t, tables.PolicySettings{Existing: true, Patience: tc.patience}, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
					c.open().ask(get)
					c.waited(tc.waited)
					left(c)
					got := c.r.totals(1)
					if got.Outcomes[tc.outcome] != 1 || got.InFlight != 0 {
						t.Errorf("totals %+v, expected one outcome %s", got, tc.outcome)
					}
				})
			})
		}
	}
}

// A client that has closed its direction and waits gets the response's status as its outcome, and latency.
func TestHalfClosedClientIsAnswered(t *testing.T) {
	policy := tables.PolicySettings{Existing: true, Patience: time.Minute, Timeout: 30 * time.Second}
	for _, tc := range []struct {
		name string
		then func(c *conn)
	}{
		{"an ACK", func(c *conn) { c.passed(c.send(ack, ""), c.hookOut, "flow") }},
		{"nothing more", func(c *conn) { c.r.sweepAt(tables.Now()+int64(2*time.Second), time.Hour) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			everywhere(t, policy, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
				c.open().ask(get)
				c.waited(time.Second)
				c.passed(c.send(fin|ack, ""), c.hookOut, "flow")
				c.answer(failed)
				c.r.wantTotals(want{Connections: 1, Admitted: 1, InFlight: 1})
				tc.then(c)
				c.r.wantTotals(want{Connections: 1, Admitted: 1, Judged: 1, Failures: 1, Outcomes: map[string]uint64{"5xx": 1}})
				events := c.r.events()
				if len(events) != 1 || events[0].Result != 500 {
					t.Fatalf("events %+v, expected one of a 500", events)
				}
				if took := time.Duration(events[0].At - events[0].Sent); took < time.Second || took > 1900*time.Millisecond {
					t.Errorf("the response took %s, expected about a second", took)
				}
			})
		})
	}
}

// The clock of a request begins with each of its segments: the time that the client takes is not the backend's.
func TestUploadTimeIsTheClients(t *testing.T) {
	policy := tables.PolicySettings{Existing: true, Timeout: 2 * time.Second, Slow: time.Second}
	everywhere(t, policy, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
		c.open().ask("POST / HTTP/1.1\r\nContent-Length: 12\r\n\r\n")
		f, _ := c.r.flow(c.client, c.backend)
		for range 3 {
			c.waited(1900 * time.Millisecond)
			c.passed(c.send(ack, "body"), c.hookOut, "flow")
		}
		c.r.sweepAt(tables.Now()+int64(1900*time.Millisecond), time.Hour)
		c.answer(failed)
		c.r.wantTotals(want{Connections: 1, Admitted: 1, Judged: 1, Failures: 1, Outcomes: map[string]uint64{"5xx": 1}})
		events := c.r.events()
		if len(events) != 1 || events[0].Slow || events[0].Began != int64(f.Request.Started) {
			t.Errorf("events %+v, expected a fast one, admitted at %d", events, f.Request.Started)
		}
	})
}
