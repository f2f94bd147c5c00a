// Package breaker decides when the clients of a backend are rejected and when the backend is probed again.
//
// It holds windows, trippers, circuits and ejection. It does no I/O, starts no goroutine, and never reads a clock:
// every method that needs the time takes it. The same code judges the outcomes that the kernel observed and the
// recorded ones of a trace.
//
// Nothing in this package is safe for concurrent use; one goroutine owns a Group and its circuits.
//
// # How it is used
//
// A Group is one policy, a Circuit one backend of it (or all of them: scope policy).
//
//	NewGroup(name string, s Settings, seed uint64) (*Group, error)
//	(*Group) Add(backend string, now Time) *Circuit      // the same one when it is known already
//	(*Group) Remove(backend string, now Time, buf) buf   // may close other circuits: ejectionLimit
//	(*Group) Update(s Settings, now Time, buf) (buf, error)
//	(*Group) Advance(now Time, buf) buf                  // everything that time alone does, in the order it was due
//	(*Group) NextDeadline() Time                         // Never when there is nothing to wait for
//	(*Group) Restore(backend string, snap Snapshot, now Time, buf) (*Circuit, buf)
//
//	(*Circuit) Allow(now Time, buf) (Admission, buf)     // the whole decision, for those without a kernel
//	(*Circuit) Began(began Time, generation uint32, buf) buf   // a probe that the kernel has admitted; never refused
//	(*Circuit) Release(now Time, generation uint32, began Time, buf) buf // its permit came back without an outcome
//	(*Circuit) Record(now Time, o *Outcome, buf) (Judgement, buf)
//	(*Circuit) RecordN(now Time, o *Outcome, n uint64, buf) (rest uint64, Judgement, buf)
//	(*Circuit) RecordSuccesses(now Time, generation uint32, n uint64, total time.Duration, buf) (Judgement, buf)
//	(*Circuit) RecordLost(now Time, generation uint32, failures, slow uint64, buf) (Judgement, buf)
//	(*Circuit) SetOldestPending(sent Time, ok bool)      // for pendingAge: of this generation only
//	(*Circuit) Impose(now Time, o Override, buf) buf     // an operator's mode
//	(*Circuit) Auto(now Time, who, why string, buf) buf  // back to the policy's mode
//	(*Circuit) Close(now Time, who, why string, buf) buf // close by hand what outcomes opened
//	(*Circuit) Status() Status, Metric(now) Metric, Snapshot() Snapshot
//
// buf is a []Event to which events are appended. No method allocates once a circuit's window has grown to its size
// and buf has room. A call about one circuit may append events of others of its group that were due before.
//
// Each transition adds one to a circuit's generation. A circuit that opened as g is half-open as g+1 from the deadline on
// (with HalfOpen.Calls 0: closed as g+1), so the kernel, which knows the deadline, makes the transition itself.
package breaker
