package control

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
)

// TraceKind is the kind of a line of a trace.
type TraceKind uint8

// Kinds of lines.
const (
	TraceOutcome TraceKind = iota // a request or connection attempt ended
	TraceAttempt                  // a half-open permit was taken
	TraceReturn                   // ... and was returned unused
)

// TraceLine is something that happened to a backend, on the kernel's clock.
type TraceLine struct {
	Kind    TraceKind
	Policy  string
	Circuit string
	Backend netip.AddrPort
	Client  netip.Addr
	Result  breaker.Result
	Permit  bool // of an outcome: it held a half-open permit
	// Generation of the circuit when the request was sent.
	Generation uint32
	At         int64 // ns
	Began      int64 // ns; when the request was admitted, or its permit taken
	Sent       int64 // ns; when the request's last byte was sent: the latency counts from there
}

// TraceWriter writes lines in the format of cbagent replay. Times are those of the kernel's clock, so that the buckets of
// time windows are those of the agent. They never decrease, although events of several CPUs may arrive out of order.
type TraceWriter struct {
	last     int64
	attempts map[netip.AddrPort][]attempt // probes in flight, oldest first
}

// attempt is a permit that was taken.
type attempt struct {
	generation uint32
	began      int64
	written    int64 // its time in the trace
}

// take returns the time in the trace at which an outcome began. A permit that a connection reserved is used by its first
// request, which is sent later: an outcome whose permit has no known begin belongs to the oldest one.
func (w *TraceWriter) take(l *TraceLine) int64 {
	all := w.attempts[l.Backend]
	i := slices.IndexFunc(all, func(a attempt) bool { return a.began == l.Began && a.generation == l.Generation })
	if i < 0 && l.Permit && len(all) > 0 && all[0].generation == l.Generation {
		i = 0
	}
	if i < 0 {
		return min(l.Began, w.last)
	}
	written := all[i].written
	if all = slices.Delete(all, i, i+1); len(all) == 0 {
		delete(w.attempts, l.Backend)
	} else {
		w.attempts[l.Backend] = all
	}
	return written
}

// Append appends a line.
func (w *TraceWriter) Append(b []byte, l *TraceLine) []byte {
	w.last = max(w.last, l.At)
	b = append(b, `{"t":`...)
	b = appendSeconds(b, w.last)
	b = append(b, `,"backend":"`...)
	b = l.Backend.AppendTo(b)
	b = append(b, '"')
	if l.Kind == TraceAttempt {
		if w.attempts == nil {
			w.attempts = map[netip.AddrPort][]attempt{}
		}
		// Probes of an earlier half-open period that never reported are over.
		same := slices.DeleteFunc(w.attempts[l.Backend], func(a attempt) bool { return a.generation != l.Generation })
		w.attempts[l.Backend] = append(same, attempt{l.Generation, l.Began, w.last})
		return append(b, `,"attempt":true}`+"\n"...)
	}
	began := w.take(l)
	result := l.Result
	if l.Kind == TraceReturn {
		result = breaker.ResultUnknown // no policy can classify this result as a failure: it only returns the permit
	}
	if status, ok := result.Status(); ok {
		b = append(b, `,"status":`...)
		b = strconv.AppendInt(b, int64(status), 10)
	} else if code, ok := result.GRPC(); ok {
		b = append(b, `,"grpc":`...)
		b = strconv.AppendInt(b, int64(code), 10)
	} else {
		b = append(b, `,"outcome":"`...)
		b = append(b, result.String()...)
		b = append(b, '"')
	}
	if l.Kind == TraceOutcome {
		b = append(b, `,"latency_ms":`...)
		b = appendMillis(b, max(l.At-l.Sent, 0))
	}
	if l.Client.IsValid() {
		b = append(b, `,"client":"`...)
		b = l.Client.AppendTo(b)
		b = append(b, '"')
	}
	b = append(b, `,"began":`...)
	b = appendSeconds(b, began)
	return append(b, '}', '\n')
}

// Tick appends a line that only moves the clock.
func (w *TraceWriter) Tick(b []byte, now int64) []byte {
	w.last = max(w.last, now)
	b = append(b, `{"t":`...)
	b = appendSeconds(b, w.last)
	return append(b, `,"tick":true}`+"\n"...)
}

// appendSeconds appends nanoseconds as seconds, exactly.
func appendSeconds(b []byte, nanos int64) []byte {
	return appendFraction(strconv.AppendInt(b, nanos/int64(time.Second), 10), nanos%int64(time.Second), int64(time.Second))
}

// appendMillis appends nanoseconds as milliseconds, exactly.
func appendMillis(b []byte, nanos int64) []byte {
	return appendFraction(strconv.AppendInt(b, nanos/int64(time.Millisecond), 10), nanos%int64(time.Millisecond), int64(time.Millisecond))
}

// appendFraction appends the digits of rest/one behind the point, without zeros at the end.
func appendFraction(b []byte, rest, one int64) []byte {
	if rest == 0 {
		return b
	}
	b = append(b, '.')
	for digit := one / 10; rest > 0; digit /= 10 {
		b = append(b, byte('0'+rest/digit))
		rest %= digit
	}
	return b
}
