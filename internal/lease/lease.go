// Package lease renews the time for which the kernel obeys verdicts, and reports when clients were admitted because it had
// run out.
package lease

import "time"

const (
	renewEvery = time.Second // at most
	renewShare = 4           // and so many times within the length
	lookEvery  = time.Second // between two looks at what was admitted
)

// Kernel is what Lease needs of the datapath.
type Kernel interface {
	RenewLease(until int64) // until is the kernel's monotonic time in ns
	LeaseExpired() uint64   // clients that were admitted because the lease had run out, since the maps exist
}

// Lease is renewed by an agent that lives. The agent's lock protects it.
type Lease struct {
	kernel    Kernel
	length    int64 // ns
	nextRenew int64
	nextLook  int64
	reported  uint64 // of LeaseExpired
}

// New returns a Lease of the given length, which is > 0. reported is what LeaseExpired said when it was reported last, by
// this agent or the one before.
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

// Admitted returns how many clients have been admitted since the last call because the lease had run out, and how many in
// all. It looks once a second. now is the kernel's monotonic time in ns.
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
