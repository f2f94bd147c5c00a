package loader

import (
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// An open circuit rejects before its deadline, and a lease holds before its end: at the same nanosecond neither does.
func TestEqualMoments(t *testing.T) {
	const now = int64(time.Hour)
	r := newRig(t)
	d := newDecider(t, r)
	for _, tc := range []struct {
		name         string
		until, lease int64
		kind         ledger.Kind
		want         bpf.CReason
	}{
		{"before the deadline", now + 1, now + 1, ledger.Open, bpf.CReasonREASON_OPEN},
		{"at the deadline", now, now + 1, ledger.Open, bpf.CReasonREASON_FLOW},
		{"after the deadline", now - 1, now + 1, ledger.Open, bpf.CReasonREASON_FLOW},
		{"before the end of the lease", 0, now + 1, ledger.ForcedOpen, bpf.CReasonREASON_FORCED_OPEN},
		{"at the end of the lease", 0, now, ledger.ForcedOpen, bpf.CReasonREASON_FLOW},
		{"after the end of the lease", 0, now - 1, ledger.ForcedOpen, bpf.CReasonREASON_FLOW},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			r.put(backendV4, tables.PolicySettings{}, ledger.Verdict{Kind: tc.kind, Until: tc.until, Calls: 1, Concurrent: 1})
			r.d.RenewLease(tc.lease)
			a := d.ask(decideDecideArgs{Now: uint64(now), Circuit: 1, Question: uint32(decideQuestionQUESTION_CERTAIN_REJECTION)})
			if a.Reason != uint32(tc.want) {
				t.Errorf("reason %d, want %d", a.Reason, tc.want)
			}
		})
	}
}

// An outcome is slow when it took longer than the threshold, not when it took just as long.
func TestSlowIsLongerThanTheThreshold(t *testing.T) {
	const threshold = time.Second
	var failures breaker.ResultSet
	failures.AddRange(500, 599) // so that a time-out is a success, whose end the sweep chooses to the nanosecond
	for name, tc := range map[string]struct {
		took time.Duration
		slow uint64
	}{"as long": {threshold, 0}, "longer": {threshold + 1, 1}} {
		t.Run(name, func(t *testing.T) {
			policy := tables.PolicySettings{Failure: failures, Slow: threshold, Timeout: threshold}
			at(t, places[:1], policy, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
				c.open().ask(get)
				f, ok := c.r.flow(c.client, c.backend)
				if !ok {
					t.Fatal("the connection is not followed")
				}
				c.r.sweepAt(int64(f.Request.Sent)+int64(tc.took), time.Hour)
				c.r.wantTotals(want{
					Connections: 1, Admitted: 1, Judged: 1, Slow: tc.slow, Outcomes: map[string]uint64{"timeout": 1},
				})
			})
		})
	}
}
