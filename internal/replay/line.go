package replay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
)

// Bounds of what a line may say.
const (
	maxTime    = breaker.Time(4_000_000_000 * time.Second) // since 1970: the year 2096
	maxLatency = 24 * time.Hour
	maxCount   = 10_000_000_000
)

// action is what a line does.
type action uint8

const (
	actionNone action = iota
	actionOutcome
	actionAttempt
	actionInspect
	actionTick
)

// line is one line of a trace.
type line struct {
	action  action
	at      breaker.Time
	backend string // as written, or the canonical form of an address
	outcome breaker.Outcome
	count   uint64
	began   bool // outcome.Began was given

	seen     []string // keys
	hasTime  bool
	problems []error
}

// parseLine reads one line. Its errors do not name the line.
func parseLine(data []byte) (line, error) {
	l := line{count: 1}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if token, err := d.Token(); err != nil || token != json.Delim('{') {
		return l, errors.New("must be a JSON object, got " + shorten(string(data)))
	}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return l, fmt.Errorf("is not JSON: %w", err)
		}
		var value any
		if err := d.Decode(&value); err != nil {
			return l, fmt.Errorf("is not JSON: %w", err)
		}
		l.field(token.(string), value)
	}
	if _, err := d.Token(); err != nil {
		return l, errors.New("is not JSON: the object does not end")
	}
	if _, err := d.Token(); err != io.EOF {
		return l, errors.New("must be one JSON object, got more after it")
	}
	l.check()
	return l, errors.Join(l.problems...)
}

func (l *line) reject(format string, args ...any) {
	l.problems = append(l.problems, fmt.Errorf(format, args...))
}

// field takes note of one key.
func (l *line) field(key string, value any) {
	if slices.Contains(l.seen, key) {
		l.reject("%s: is there twice", key)
		return
	}
	l.seen = append(l.seen, key)
	switch key {
	case "t":
		l.hasTime = l.number(key, value, 9, int64(maxTime), (*int64)(&l.at))
	case "began":
		l.began = l.number(key, value, 9, int64(maxTime), (*int64)(&l.outcome.Began))
	case "latency_ms":
		l.outcome.HasLatency = l.number(key, value, 6, int64(maxLatency), (*int64)(&l.outcome.Latency))
	case "count":
		l.countOf(value)
	case "status", "grpc", "outcome":
		l.is(actionOutcome, key)
		l.result(key, value)
	case "attempt", "inspect", "tick":
		l.is(map[string]action{"attempt": actionAttempt, "inspect": actionInspect, "tick": actionTick}[key], key)
		if value != true {
			l.reject("%s: must be true, got %s", key, show(value))
		}
	case "backend":
		l.backendOf(value)
	case "client":
		text, _ := value.(string)
		addr, err := netip.ParseAddr(text)
		if err != nil {
			l.reject("client: must be an IP address, got %s", show(value))
		}
		l.outcome.Client = addr.Unmap()
	default:
		l.reject("%s: is not a key of a trace; these are: t, backend, status, grpc, outcome, latency_ms, count, client, began, "+
			"attempt, inspect, tick", shorten(key))
	}
}

// is notes the action, of which there is one in a line.
func (l *line) is(a action, key string) {
	if l.action != actionNone {
		l.reject("%s: must be alone: a line has one of status, grpc, outcome, attempt, inspect and tick", key)
	}
	l.action = a
}

func (l *line) number(key string, value any, shift int, most int64, into *int64) bool {
	number, ok := value.(json.Number)
	if !ok {
		l.reject("%s: must be a number, got %s", key, show(value))
		return false
	}
	n, err := parseScaled(number.String(), shift, most)
	if err != nil {
		l.reject("%s: %w", key, err)
		return false
	}
	*into = n
	return true
}

func (l *line) countOf(value any) {
	number, _ := value.(json.Number)
	n, err := number.Int64()
	if err != nil || n < 1 || n > maxCount {
		l.reject("count: must be a whole number between 1 and %d, got %s", int64(maxCount), show(value))
		return
	}
	l.count = uint64(n)
}

func (l *line) result(key string, value any) {
	switch key {
	case "status":
		if n, ok := l.whole(key, value, 100, breaker.MaxStatus); ok {
			l.outcome.Result = breaker.Result(n)
		}
		return
	case "grpc":
		if n, ok := l.whole(key, value, 0, breaker.GRPCCodes-1); ok {
			l.outcome.Result = breaker.ResultGRPC(n)
		}
		return
	}
	text, _ := value.(string)
	r, err := breaker.ParseResult(text)
	if err != nil {
		l.reject("outcome: must be one of %s, got %s", outcomeNames(), show(value))
		return
	}
	l.outcome.Result = r
}

// whole returns the whole number that a key has.
func (l *line) whole(key string, value any, least, most int) (n int, ok bool) {
	number, _ := value.(json.Number)
	m, err := number.Int64()
	if err != nil || m < int64(least) || m > int64(most) {
		l.reject("%s: must be between %d and %d, got %s", key, least, most, show(value))
		return 0, false
	}
	return int(m), true
}

func outcomeNames() string {
	var names []string
	for _, r := range breaker.NamedResults()[1:] {
		names = append(names, r.String())
	}
	return strings.Join(names, ", ")
}

func (l *line) backendOf(value any) {
	text, ok := value.(string)
	if !ok || text == "" {
		l.reject("backend: must be IP:port, got %s", show(value))
		return
	}
	l.backend = text
	if addr, err := netip.ParseAddrPort(text); err == nil {
		l.backend = canonical(addr)
	}
}

// canonical is the name of a backend's circuit.
func canonical(addr netip.AddrPort) string {
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()).String()
}

// check reports what is missing, and what does not go with the action.
func (l *line) check() {
	if !slices.Contains(l.seen, "t") {
		l.reject("t: is required")
	}
	if l.action == actionNone {
		l.reject("must have one of status, grpc, outcome, attempt, inspect and tick")
		return
	}
	if l.action != actionTick && !slices.Contains(l.seen, "backend") {
		l.reject("backend: is required")
	}
	if l.action == actionTick && slices.Contains(l.seen, "backend") {
		l.reject("backend: does not go with tick, which moves the clock for all")
	}
	if l.action != actionOutcome {
		for _, key := range []string{"latency_ms", "count", "client", "began"} {
			if slices.Contains(l.seen, key) {
				l.reject("%s: goes with status, grpc or outcome only", key)
			}
		}
	}
	if l.began && l.hasTime && l.outcome.Began > l.at {
		l.reject("began: must not be after t")
	}
}

// show prints a value of a line for a message.
func show(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return shorten(fmt.Sprint(value))
	}
	return shorten(string(text))
}
