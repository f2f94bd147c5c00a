package neighbour

import (
	"errors"
	"net/netip"
	"time"
)

// early is by how much a hold may end before its time, and still as if that had come.
const early = 200 * time.Millisecond

// setHolds holds the entries that are wanted, and releases the others.
func (w *Watcher) setHolds(all map[Key]time.Time, now time.Time) {
	for k, until := range w.held {
		if _, still := all[k]; !still {
			// Who sets the time may see that it has come before the watcher does.
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

// renewAll renews what is held, as long as the neighbour does not answer.
func (w *Watcher) renewAll() {
	for k := range w.held {
		if !w.table.IsDead(k) {
			delete(w.held, k) // the entry is the kernel's own now
			continue
		}
		w.renew(k)
	}
}

func (w *Watcher) renew(k Key) {
	if err := hold(w.handle, k, w.table.MAC(k)); err != nil {
		w.log.Debug("neighbour", "interface", k.Link, "error", err)
	}
}

// nextDue is when the next hold ends.
func (w *Watcher) nextDue() time.Time {
	next := time.Now().Add(time.Hour)
	for _, until := range w.held {
		if !until.IsZero() && until.Before(next) {
			next = until
		}
	}
	return next
}

// releaseDue releases what is held no longer, and asks for the neighbour: whether it is back is known before a client asks.
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

// release gives up an entry. One that the neighbour has brought to life is the kernel's own, and stays.
func (w *Watcher) release(k Key, ask bool) {
	delete(w.held, k)
	if !w.table.IsDead(k) {
		return
	}
	err := drop(w.handle, k)
	if ask {
		err = errors.Join(err, resolve(w.handle, k))
	}
	if err != nil {
		w.log.Debug("neighbour", "interface", k.Link, "error", err)
	}
}

// verify has the kernel probe neighbours that it believes in.
func (w *Watcher) verify(all []netip.Addr) {
	for _, addr := range all {
		k, mac, ok := w.table.Unverified(addr)
		if !ok {
			continue
		}
		if err := hold(w.handle, k, mac); err != nil {
			w.log.Debug("neighbour", "interface", k.Link, "error", err)
		}
	}
}
