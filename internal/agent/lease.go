package agent

import (
	"time"

	"github.com/cbagent/cbagent/internal/history"
	"github.com/cbagent/cbagent/internal/view"
)

// recordLease records that clients were admitted because the lease of this agent, or of the one before it, had expired.
func (a *Agent) recordLease(now int64) {
	admitted, total := a.lease.Admitted(now)
	if admitted == 0 {
		return
	}
	at, n := time.Now(), float64(admitted)
	a.records.Add(view.Record{Time: at, Kind: view.KindLease, Cause: view.CauseLease, Reason: "leaseExpired", Value: &n, Total: total}, at)
}

// leaseReported returns the total of the last such record.
func leaseReported(h *history.History) uint64 {
	past := h.Last(history.Kept)
	for i := len(past) - 1; i >= 0; i-- {
		if past[i].Kind == view.KindLease {
			return past[i].Total
		}
	}
	return 0
}
