package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Limits of the time between two lookups of a name.
const (
	minTTL         = time.Second
	maxTTL         = 5 * time.Minute
	maxNegativeTTL = 30 * time.Second
	maxBackoff     = 30 * time.Second
)

// hostSource looks one name up again whenever the TTL of its addresses has expired.
//
// A failure (no server answers, or none knows) keeps the addresses of the family that failed and tries again after 1 s, 2
// s, 4 s and so on up to 30 s. The answer that the name has no address of either family removes the backends when it comes
// twice in a row, at least a second apart. Until then the old addresses stay. If only one family has no addresses, its old
// ones are removed at once.
type hostSource struct {
	name    string
	logger  *slog.Logger
	dns     *resolver
	changed func()
	cancel  context.CancelFunc
	done    chan struct{}

	mu       sync.Mutex
	v4, v6   []netip.Addr
	state    SourceStatus
	err      error
	denied   int // answers in a row that there is no such host
	failures int // in a row
}

func newHostSource(ctx context.Context, logger *slog.Logger, dns *resolver, name string, changed func()) source {
	if a, err := netip.ParseAddr(name); err == nil {
		return literal{a.Unmap().WithZone("")}
	}
	ctx, cancel := context.WithCancel(ctx)
	h := &hostSource{name: name, logger: logger, dns: dns, changed: changed, cancel: cancel, done: make(chan struct{})}
	go h.run(ctx)
	return h
}

func (h *hostSource) run(ctx context.Context) {
	defer close(h.done)
	for {
		v4, v6 := h.dns.lookup(ctx, h.name)
		if ctx.Err() != nil {
			return
		}
		wait, changed := h.take(v4, v6, time.Now())
		if changed {
			h.changed()
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// take applies the result of a lookup. It returns how long to wait for the next, and whether addresses or error have
// changed.
func (h *hostSource) take(v4, v6 family, now time.Time) (wait time.Duration, changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	oldV4, oldV6, oldErr, oldAnswered := h.v4, h.v6, h.err, h.state.Answered
	failure := joinLookupErrors(v4.err, v6.err)
	none := failure == nil && len(v4.addrs)+len(v6.addrs) == 0
	if !none {
		h.denied = 0
	}
	switch {
	case none:
		h.denied++
		h.err = fmt.Errorf("look up %s: %w", h.name, errNoSuchHost)
		wait = minTTL
		if h.denied > 1 {
			h.v4, h.v6 = nil, nil
			h.state.Answered = true
			wait = clamp(min(v4.ttl, v6.ttl), minTTL, maxNegativeTTL)
		}
	case failure != nil:
		h.err = failure
		if v4.err == nil {
			h.v4 = v4.addrs
		}
		if v6.err == nil {
			h.v6 = v6.addrs
		}
		h.state.Answered = h.state.Answered || len(v4.addrs)+len(v6.addrs) > 0
		wait = min(minTTL<<min(h.failures, 10), maxBackoff)
	default:
		h.err = nil
		h.v4, h.v6 = v4.addrs, v6.addrs
		h.state.Answered = true
		wait = maxTTL
		for _, f := range []family{v4, v6} {
			if len(f.addrs) > 0 {
				wait = min(wait, f.ttl)
			}
		}
		wait = clamp(wait, minTTL, maxTTL)
	}
	h.note(now, wait, failure, none)
	changed = errorText(oldErr) != errorText(h.err) || oldAnswered != h.state.Answered ||
		!slices.Equal(oldV4, h.v4) || !slices.Equal(oldV6, h.v6)
	return wait, changed
}

// note updates the counts and logs the begin and the end of failures.
func (h *hostSource) note(now time.Time, wait time.Duration, failure error, none bool) {
	h.state.Next = now.Add(wait)
	if failure != nil {
		h.state.Failures++
		h.state.LastFailure = now
		if h.failures++; h.failures == 1 {
			h.logger.Warn("host lookup failed, keeping what is known", "host", h.name, "known", len(h.v4)+len(h.v6), "error", failure)
		}
		return
	}
	if h.failures > 0 {
		h.logger.Info("host lookup works again", "host", h.name, "failures", h.failures)
	}
	h.failures = 0
	h.state.Successes++
	h.state.LastSuccess = now
	if none && h.denied == 2 {
		h.logger.Warn("host has no address", "host", h.name)
	}
}

func (h *hostSource) answer(port string) answer {
	h.mu.Lock()
	defer h.mu.Unlock()
	got := answer{answered: h.state.Answered, err: h.err}
	n, _ := strconv.ParseUint(port, 10, 16)
	for _, a := range slices.Concat(h.v4, h.v6) {
		got.backends = append(got.backends, Backend{Addr: netip.AddrPortFrom(a, uint16(n)), Kind: KindHost, Source: h.name + ":" + port})
	}
	return got
}

func (h *hostSource) status() SourceStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	st := h.state
	st.Answers = len(h.v4) + len(h.v6)
	st.LastError = errorText(h.err)
	st.Stale = h.failures > 0 && st.Answers > 0
	return st
}

func (h *hostSource) needs([]string) {}

func (h *hostSource) close() {
	h.cancel()
	<-h.done
}

// joinLookupErrors joins the errors of both families, or returns one of them if they are equal.
func joinLookupErrors(a, b error) error {
	if a != nil && b != nil && a.Error() == b.Error() {
		return a
	}
	return errors.Join(a, b)
}

func clamp(d, low, high time.Duration) time.Duration { return max(low, min(d, high)) }

// literal is a host that was written as an address.
type literal struct{ addr netip.Addr }

func (l literal) answer(port string) answer {
	n, _ := strconv.ParseUint(port, 10, 16)
	at := netip.AddrPortFrom(l.addr, uint16(n))
	return answer{backends: []Backend{{Addr: at, Kind: KindHost, Source: at.String()}}, answered: true}
}
func (l literal) status() SourceStatus { return SourceStatus{Answered: true, Answers: 1} }
func (l literal) needs([]string)       {}
func (l literal) close()               {}
