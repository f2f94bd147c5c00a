//go:build zoo

package zoo

import "time"

func (c call) began() time.Time { return time.Unix(0, c.At) }
func (c call) ended() time.Time { return c.began().Add(c.latency()) }

// countAfter returns how many calls began after a moment.
func countAfter(calls []call, moment time.Time) (n int) {
	for _, one := range calls {
		if one.began().After(moment) {
			n++
		}
	}
	return n
}

// await waits until a condition of the calls so far is met, and fails the test if the client ends before.
func (r *running) await(what string, ok func([]call) bool) {
	r.t.Helper()
	ctx := soon(r.t)
	for {
		r.mu.Lock()
		met, done, err, more := ok(r.calls), r.done, r.err, r.more
		r.mu.Unlock()
		switch {
		case met:
			return
		case done:
			r.t.Fatalf("%s ended before %s: %v", r.title, what, err)
		}
		select {
		case <-more:
		case <-ctx.Done():
			r.t.Fatalf("%s: waited in vain: %s", r.title, what)
		}
	}
}

// stop ends the client's input, and returns its calls when it has ended.
func (r *running) stop() []call {
	r.t.Helper()
	_ = r.stdin.Close() // its only reader may have ended
	return r.all()
}
