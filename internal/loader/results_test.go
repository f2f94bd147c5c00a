package loader

import (
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// The programs count each result in its class, and judge it as the breaker does.
func TestResultsAreJudgedAsByTheBreaker(t *testing.T) {
	r := newRig(t)
	d := newDecider(t, r)
	random := seeded(t)
	var rules breaker.OutcomeRules
	for result := range breaker.Result(breaker.MaxResult + 1) {
		for _, set := range []*breaker.ResultSet{&rules.Failure, &rules.Ignore} {
			if random.IntN(2) == 0 {
				set.Add(result)
			}
		}
	}
	r.put(backendV4, tables.PolicySettings{Failure: rules.Failure, Ignore: rules.Ignore}, ledger.Verdict{Kind: ledger.Closed})
	const latency = time.Second
	now := tables.Now()
	var want tables.Totals
	var judged, failures uint64
	for result := breaker.ResultConnected; result <= breaker.MaxResult; result++ {
		_, status := result.Status()
		_, grpc := result.GRPC()
		if !status && !grpc && int(result) >= len(breaker.NamedResults()) {
			continue
		}
		d.ask(decideDecideArgs{
			Circuit: 1, Question: uint32(decideQuestionQUESTION_OUTCOME), Generation: 1, Random: uint32(result),
			Now: uint64(now), Until: uint64(now - int64(latency)),
		})
		want.Outcomes[tables.OutcomeClass(result)]++
		if status || grpc {
			want.LatencySum += latency
		}
		if rules.Ignores(result) {
			want.Unjudged++
		} else {
			judged++
		}
		if rules.Fails(result) {
			failures++
		}
		got, progress := r.d.Totals(1), r.d.Progress(1)
		if got.Outcomes != want.Outcomes || got.LatencySum != want.LatencySum || got.Unjudged != want.Unjudged ||
			progress.Judged != judged || progress.Failures != failures {
			t.Fatalf("after %s: %+v, %+v; expected %+v, %d judged, %d failures", result, got, progress, want, judged, failures)
		}
	}
	all, err := r.d.Statuses()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.Status < 100 || s.Status > breaker.MaxStatus {
			t.Errorf("%d is counted as a status", s.Status)
		}
	}
	// The table is small, and the next test needs it.
	if err := r.d.ForgetStatuses(map[int]bool{1: true}); err != nil {
		t.Error(err)
	}
}
