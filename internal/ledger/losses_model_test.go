package ledger

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"pgregory.net/rapid"
)

// With several CPUs, a ring that is too small, and an agent that is restarted: once all is quiet, the window holds as many
// outcomes, failures and slow ones as the programs have judged since the agent started, and what was recovered was lost.
func TestLossIsRecoveredByNumber(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := breaker.DefaultSettings()
		s.Outcome.Slow = 15 * time.Millisecond
		s.Window = breaker.Window{Type: breaker.WindowTime, Size: time.Hour, Bucket: time.Minute}
		s.Trip = breaker.Trip{Kind: breaker.TripFailureCount, N: breaker.MaxCallCount}
		b := newBench(t, s, rapid.IntRange(0, 8).Draw(t, "room"))
		var submitting []*Event // on a CPU, between being counted and being in the ring
		recovered := uint64(0)
		base := make([]Progress, len(b.accounts))
		lostBefore := uint64(0)
		results := rapid.SampledFrom([]breaker.Result{200, 200, 200, 500, breaker.ResultAborted})
		submit := func(i int) {
			ev := submitting[i]
			submitting = slices.Delete(submitting, i, i+1)
			b.k.submit(ev)
		}
		tick := func() {
			for _, r := range b.book.Advance(b.k.now) {
				recovered += r.Lost
				if r.Unexplained > 0 {
					t.Errorf("%+v is not explained, %d events were lost", r, b.k.lost)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"serve": func(t *rapid.T) {
				i := rapid.IntRange(0, len(b.accounts)-1).Draw(t, "circuit")
				for range rapid.IntRange(1, 10).Draw(t, "requests") {
					r, _ := b.k.admit(i, 0)
					result, most := results.Draw(t, "result"), int64(30)
					if result == 500 {
						most = 10 // the programs count a slow failure as a failure alone
					}
					b.k.now += rapid.Int64Range(1, most).Draw(t, "ms") * ms
					if ev, sent := b.k.judge(&r, result); sent {
						submitting = append(submitting, ev)
					}
				}
			},
			"submit": func(t *rapid.T) {
				if len(submitting) == 0 {
					t.Skip("none")
				}
				submit(rapid.IntRange(0, len(submitting)-1).Draw(t, "cpu"))
			},
			"read": func(t *rapid.T) {
				if len(b.k.ring) == 0 {
					t.Skip("none")
				}
				b.book.Apply(b.k.next())
			},
			"tick": func(*rapid.T) {
				b.k.now += 100 * ms
				tick()
				// A tick is long beside the time between counting and submitting.
				for len(submitting) > 0 {
					submit(0)
				}
			},
			"restart": func(t *rapid.T) {
				if rapid.IntRange(0, 5).Draw(t, "restart") > 0 {
					t.Skip("seldom")
				}
				b.m.stream = make([]entry, len(b.k.ring))
				b.restart(nil)
				for i := range base {
					base[i] = b.k.Progress(i)
				}
				lostBefore, recovered = b.k.lost, 0
			},
		})
		for len(submitting) > 0 {
			submit(0)
		}
		for range 8 {
			for len(b.k.ring) > 0 {
				b.book.Apply(b.k.next())
			}
			b.k.now += 100 * ms
			tick()
		}
		for i, a := range b.accounts {
			m, p := a.Metric(breaker.Time(b.k.now)), b.k.Progress(i)
			got := fmt.Sprintf("%d outcomes, %d failures, %d slow", m.Total, m.Failures, m.Slow)
			n := base[i]
			if want := fmt.Sprintf("%d outcomes, %d failures, %d slow", p.Judged-n.Judged, p.Failures-n.Failures, p.Slow-n.Slow); got != want {
				t.Errorf("the window of circuit %d holds %s, want %s; %+v", i, got, want, a.tally)
			}
		}
		// Of those that were counted before a restart none is recovered.
		if lost := b.k.lost - lostBefore; recovered > lost || recovered < lost && b.starts == 1 {
			t.Errorf("%d events were lost, %d recovered", lost, recovered)
		}
	})
}
