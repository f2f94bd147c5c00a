package neighbour

import (
	"errors"
	"net/netip"
	"time"
)

// early is how long before its time a hold may end and still count as expired.
const early = 200 * time.Millisecond

// setHolds holds the entries of dead neighbours in all, and releases the others.
func (w *Watcher) setHolds(all map[Key]time.Time, now time.Time) {
	for k, until := range w.held {
		if _, still := all[k]; !still {
			// The client may notice that the time has come before the watcher does.
			w.release(k, !until.IsZero() && !now.Add(early).Before(until))
		}
	}
	for k, until := range all {
		_, already := w.held[k]
		if !w.table.IsDead(k) || !until.IsZero() && !now.Before(until) {
			continue
		}
		w.held[k] = until
		if !already {
			w.renew(k)
		}
	}
}

// renewAll renews the held entries whose neighbours still do not answer.
func (w *Watcher) renewAll() {
	for k := range w.held {
		if !w.table.IsDead(k) {
			delete(w.held, k) // the kernel manages the entry again
			continue
		}
		w.renew(k)
	}
}

func (w *Watcher) renew(k Key) {
	if err := hold(w.handle, k, w.table.MAC(k)); err != nil {
		w.log.Debug("cannot renew a held neighbour entry", "interface", k.Link, "error", err)
	}
}

// nextDue returns when the next hold ends, at most an hour from now.
func (w *Watcher) nextDue() time.Time {
	next := time.Now().Add(time.Hour)
	for _, until := range w.held {
		if !until.IsZero() && until.Before(next) {
			next = until
		}
	}
	return next
}

// releaseDue releases the entries whose time has come, and resolves their neighbours at once: a neighbour that is back is
// known before the next client connects.
func (w *Watcher) releaseDue(now time.Time) {
	for k, until := range w.held {
		if !until.IsZero() && !now.Before(until) {
			w.release(k, true)
		}
	}
}

func (w *Watcher) releaseAll() {
	for k := range w.held {
		w.release(k, false)
	}
}

// release stops holding an entry and removes it, unless the neighbour answers again. With again it starts a resolution.
func (w *Watcher) release(k Key, again bool) {
	delete(w.held, k)
	if !w.table.IsDead(k) {
		return
	}
	err := drop(w.handle, k)
	if again {
		err = errors.Join(err, resolve(w.handle, k))
	}
	if err != nil {
		w.log.Debug("cannot release a held neighbour entry", "interface", k.Link, "error", err)
	}
}

// verify makes the kernel probe neighbours whose entries are valid.
func (w *Watcher) verify(all []netip.Addr) {
	for _, addr := range all {
		k, mac, ok := w.table.Unverified(addr)
		if !ok {
			continue
		}
		if err := hold(w.handle, k, mac); err != nil {
			w.log.Debug("cannot verify a neighbour", "interface", k.Link, "error", err)
		}
	}
}
