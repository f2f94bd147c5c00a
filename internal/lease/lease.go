// Package lease renews the time for which the kernel applies verdicts, and reports clients that were admitted because it
// had expired.
package lease

import "time"

const (
	renewEvery = time.Second // at most
	renewShare = 4           // and so many times within the length
	lookEvery  = time.Second // between two reads of the count
)

// Kernel is the part of the datapath that Lease uses.
type Kernel interface {
	RenewLease(until int64) // until is the kernel's monotonic time in ns
	LeaseExpired() uint64   // clients that were admitted because the lease had expired, since the maps exist
}

// Lease is the agent's lease of verdicts. The agent's lock protects it.
type Lease struct {
	kernel    Kernel
	length    int64 // ns
	nextRenew int64
	nextLook  int64
	reported  uint64 // of LeaseExpired
}

// New returns a Lease of the given length, which is > 0. reported is the last reported value of LeaseExpired, by this agent
// or the one before.
func New(k Kernel, length time.Duration, reported uint64) *Lease {
	return &Lease{kernel: k, length: int64(length), reported: reported}
}

// Renew renews the lease when that is due: each second, or four times within a shorter length. now is the kernel's monotonic
// time in ns.
func (l *Lease) Renew(now int64) {
	if now < l.nextRenew {
		return
	}
	l.kernel.RenewLease(now + l.length)
	l.nextRenew = now + min(int64(renewEvery), l.length/renewShare)
}

// Admitted returns how many clients have been admitted since the last call because the lease had expired, and how many in
// all. It reads the count once a second. now is the kernel's monotonic time in ns.
func (l *Lease) Admitted(now int64) (n, total uint64) {
	if now < l.nextLook {
		return 0, l.reported
	}
	l.nextLook = now + int64(lookEvery)
	total = l.kernel.LeaseExpired()
	before := l.reported
	if before > total {
		before = 0 // the count is that of new maps
	}
	l.reported = total
	return total - before, total
}
