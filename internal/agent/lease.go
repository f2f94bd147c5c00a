package agent

import (
	"time"

	"github.com/cbagent/cbagent/internal/history"
	"github.com/cbagent/cbagent/internal/view"
)

// leaseEvery is how often it is asked whether the lease ran out.
const leaseEvery = time.Second

// noteLease tells when clients were let through only because this agent, or the one before it, had not renewed its lease.
func (a *Agent) noteLease(now int64) {
	if now < a.nextLeaseLook {
		return
	}
	a.nextLeaseLook = now + int64(leaseEvery)
	total := a.dp.NodeCounts().LeaseExpired
	told := a.leaseTold
	if told > total {
		told = 0 // the count is that of new maps
	}
	a.leaseTold = total
	if total == told {
		return
	}
	at, n := time.Now(), float64(total-told)
	a.record(view.Record{Time: at, Kind: view.KindLease, Cause: view.CauseLease, Reason: "leaseExpired", Value: &n, Total: total}, at)
}

// leaseTold returns what the history says of it.
func leaseTold(h *history.History) uint64 {
	past := h.Last(history.Kept)
	for i := len(past) - 1; i >= 0; i-- {
		if past[i].Kind == view.KindLease {
			return past[i].Total
		}
	}
	return 0
}
