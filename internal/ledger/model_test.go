package ledger

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"pgregory.net/rapid"
)

// model feeds a breaker every outcome as it is, one at a time and in the order of the programs, when the book learns of it.
type model struct {
	group    *breaker.Group
	circuits []*breaker.Circuit
	plain    [][]breaker.Outcome // by circuit: judged, without an event, since the latest event
	stream   []entry             // as the ring
	upTo     int64
	lastAt   int64
	events   []breaker.Event
}

// entry is an event and what the book does not see of it.
type entry struct {
	outcome  breaker.Outcome
	before   []breaker.Outcome // plain successes between the event before it and this one
	admitted breaker.Time
	past     bool // judged before the agent was started
}

// drawSettings draws a policy whose trips depend on nothing that a number of plain successes does not say.
func drawSettings(t *rapid.T) breaker.Settings {
	s := breaker.DefaultSettings()
	s.Mode = rapid.SampledFrom([]breaker.Mode{breaker.ModeEnforce, breaker.ModeEnforce, breaker.ModeMonitor}).Draw(t, "mode")
	s.Outcome.Slow = rapid.SampledFrom([]time.Duration{0, 40 * time.Millisecond, 200 * time.Millisecond}).Draw(t, "slow")
	if rapid.Bool().Draw(t, "count window") {
		s.Window = breaker.Window{Type: breaker.WindowCount, Count: rapid.IntRange(1, 30).Draw(t, "count")}
	}
	n := func(label string) int { return rapid.IntRange(1, 6).Draw(t, label) }
	var some breaker.ResultSet
	some.Add(500)
	some.Add(rapid.SampledFrom([]breaker.Result{503, 200, 404}).Draw(t, "class"))
	all := func(trips ...breaker.Trip) breaker.Trip { return breaker.Trip{Kind: breaker.TripAll, Children: trips} }
	leaves := map[string]breaker.Trip{
		"streak":    {Kind: breaker.TripConsecutiveFailures, N: n("n")},
		"streak of": {Kind: breaker.TripConsecutiveFailures, N: n("n"), Of: &some},
		"count":     {Kind: breaker.TripFailureCount, N: 2 * n("n")},
		"rate": all(breaker.Trip{Kind: breaker.TripMinCalls, N: 2 * n("n")},
			breaker.Trip{Kind: breaker.TripFailureRate, Rate: 0.3}),
		"slow": all(breaker.Trip{Kind: breaker.TripMinCalls, N: n("n")},
			breaker.Trip{Kind: breaker.TripSlowRate, Rate: 0.4, Over: 20 * time.Millisecond}),
		"clients": {Kind: breaker.TripMinClients, N: n("n")},
		"pending": {Kind: breaker.TripPendingAge, Over: 300 * time.Millisecond},
		"half":    all(breaker.Trip{Kind: breaker.TripState, State: breaker.StateHalfOpen}, breaker.Trip{Kind: breaker.TripFailureCount, N: 1}),
	}
	if s.Window.Type == breaker.WindowCount {
		leaves["mean"] = breaker.Trip{Kind: breaker.TripAvgLatency, Over: 50 * time.Millisecond}
	}
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range leaves {
			if !yield(name) {
				return
			}
		}
	})
	s.Trip = breaker.Trip{Kind: breaker.TripAny}
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, 3, rapid.ID).Draw(t, "trippers") {
		s.Trip.Children = append(s.Trip.Children, leaves[name])
	}
	s.Open = breaker.Open{Duration: 400 * time.Millisecond, Backoff: breaker.BackoffLinear, Max: time.Second, Jitter: 0.2}
	s.HalfOpen.Calls = rapid.IntRange(0, 4).Draw(t, "calls")
	s.HalfOpen.Concurrent = max(1, rapid.IntRange(0, s.HalfOpen.Calls).Draw(t, "concurrent"))
	s.HalfOpen.Tolerate = rapid.IntRange(0, max(0, s.HalfOpen.Calls-1)).Draw(t, "tolerate")
	s.HalfOpen.Timeout = 250 * time.Millisecond
	if rapid.IntRange(0, 3).Draw(t, "ramp") == 0 {
		s.HalfOpen = breaker.HalfOpen{Ramp: &breaker.Ramp{From: 0.25, To: 1, Over: 500 * time.Millisecond}}
	}
	s.Ejection.MaxPercent = rapid.SampledFrom([]float64{100, 50}).Draw(t, "percent")
	return s
}

// bench is a book on programs, and the model beside them.
type bench struct {
	rapid.TB
	settings breaker.Settings
	k        *programs
	book     *Book
	group    *Group
	accounts []*Account
	events   []breaker.Event
	calls    []call
	m        model
	starts   uint64
}

func newBench(t rapid.TB, s breaker.Settings, room int) *bench {
	b := &bench{TB: t, settings: s, k: newPrograms(2, room)}
	for i := range b.k.table {
		b.k.table[i].policy = policyWord{rules: s.Outcome, needs: NeedsOf(&s)}
	}
	b.start()
	for i := range b.k.table {
		a := b.group.Open(i)
		a.Begin(backends[i].String(), breaker.Time(b.k.now))
		b.accounts = append(b.accounts, a)
		b.m.circuits = append(b.m.circuits, b.m.group.Add(backends[i].String(), breaker.Time(b.k.now)))
	}
	return b
}

// start begins with an empty book and an empty model.
func (b *bench) start() {
	var err error
	b.starts++
	b.book = NewBook(b.k, b.k.now)
	b.group, err = b.book.NewGroup("orders", b.settings, b.starts, func(events []breaker.Event) {
		for i := range events {
			a := b.group.accounts[events[i].Circuit]
			s := a.circuit.Status()
			if v := b.k.Published(a.place); v.Generation != verdictOf(&s, &b.settings.HalfOpen).Generation {
				b.Errorf("the event %+v is delivered before its verdict: %+v is in force", events[i], v)
			}
			b.events = append(b.events, events[i])
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	b.accounts, b.m.circuits = nil, nil
	b.m.plain, b.m.upTo, b.m.lastAt = make([][]breaker.Outcome, len(b.k.table)), b.k.now, 0
	if b.m.group, err = breaker.NewGroup("orders", b.settings, b.starts); err != nil {
		b.Fatal(err)
	}
}

// restart adopts what the programs enforce, with snapshots or without.
func (b *bench) restart(saved []breaker.Snapshot) {
	was := b.accounts
	b.start()
	for i := range was {
		a := b.group.Open(i)
		var s breaker.Snapshot
		known := saved != nil
		if known {
			s = saved[i]
		}
		halfOpen := b.k.table[i].verdict.HalfOpen(b.k.now)
		before := was[i].Status()
		s = a.Adopt(backends[i].String(), s, known, breaker.Time(b.k.now))
		if before.State == breaker.StateOpen && !halfOpen && (s.State != breaker.StateOpen || s.Until != before.Until) {
			b.Errorf("it was open until %d, and goes on %s until %d", before.Until, s.State, s.Until)
		}
		if before.State == breaker.StateClosed && (s.State != breaker.StateClosed || s.Generation != before.Generation) {
			b.Errorf("it was closed in generation %d, and goes on %s in %d", before.Generation, s.State, s.Generation)
		}
		if fresh := known && saved[i] == was[i].Snapshot(); fresh && halfOpen == (before.State == breaker.StateHalfOpen) && s != saved[i] {
			b.Errorf("%+v was saved, and it goes on as %+v", saved[i], s)
		}
		b.accounts = append(b.accounts, a)
		c, events := b.m.group.Restore(backends[i].String(), s, b.m.clock(b.k), b.m.events)
		b.m.circuits, b.m.events = append(b.m.circuits, c), events
	}
	for i := range b.m.stream {
		e := &b.m.stream[i]
		e.before, e.past = nil, b.k.ring[i].Judged
	}
}

// admit asks for a request.
func (b *bench) admit(circuit int, share float64) (call, bool) {
	n := len(b.k.ring)
	r, ok := b.k.admit(circuit, share)
	if len(b.k.ring) > n {
		b.m.stream = append(b.m.stream, entry{admitted: breaker.Time(r.admitted)})
	}
	return r, ok
}

// leave closes a connection that has sent no request.
func (b *bench) leave(r call) {
	if ev := b.k.abandon(&r); ev != nil && b.k.submit(ev) {
		b.m.stream = append(b.m.stream, entry{admitted: breaker.Time(r.admitted)})
	}
}

// finish ends a request and has the event submitted.
func (b *bench) finish(r call, result breaker.Result) {
	ev, sent := b.k.judge(&r, result)
	o := breaker.Outcome{Result: result, HasLatency: true, Latency: time.Duration(ev.At - r.sent), Permit: r.permit,
		Generation: fromKernel(r.generation), Began: breaker.Time(r.sent), Client: r.client.Addr()}
	if r.permit {
		o.Began = breaker.Time(r.admitted)
	}
	o.Permit = o.Permit || ev.Judged && b.settings.HalfOpen.Ramp != nil
	plain := &b.m.plain[r.circuit]
	if !sent {
		if ev.Judged {
			*plain = append(*plain, o)
		}
		return
	}
	e := entry{outcome: o}
	if ev.Judged {
		e.before, *plain = *plain, nil
	}
	if b.k.submit(ev) {
		b.m.stream = append(b.m.stream, e)
	}
}

// read applies the oldest event to the book and to the model.
func (b *bench) read() {
	ev, e := b.k.next(), b.m.stream[0]
	b.m.stream = b.m.stream[1:]
	b.book.Apply(ev)
	b.m.apply(ev, &e)
}

func (b *bench) readAll() {
	for len(b.k.ring) > 0 {
		b.read()
	}
}

func (m *model) apply(ev *Event, e *entry) {
	m.lastAt = max(m.lastAt, ev.At)
	c, at, generation := m.circuits[ev.Circuit], breaker.Time(ev.At), fromKernel(ev.Generation)
	switch ev.Kind {
	case EventProbe:
		m.events = c.Began(e.admitted, generation, m.events)
	case EventReturn:
		m.events = c.Release(at, generation, e.admitted, m.events)
	case EventOutcome:
		s := c.Status()
		if e.past && ev.Judged && generation == effectiveGeneration(&s, at) {
			return
		}
		m.record(c, at, e.before)
		_, m.events = c.Record(at, &e.outcome, m.events)
	}
}

func (m *model) record(c *breaker.Circuit, at breaker.Time, outcomes []breaker.Outcome) {
	for i := range outcomes {
		_, m.events = c.Record(at, &outcomes[i], m.events)
	}
}

func (m *model) clock(k *programs) breaker.Time {
	if len(k.ring) == 0 {
		m.upTo = max(m.upTo, k.now)
	} else {
		m.upTo = max(m.upTo, m.lastAt)
	}
	return breaker.Time(m.upTo)
}

// catchUp gives the circuits what they learn at a tick: the plain successes after the latest event, if that has been read.
func (m *model) catchUp(k *programs, at breaker.Time) {
	for i, c := range m.circuits {
		waits := false
		for j, ev := range k.ring {
			waits = waits || ev.Circuit == i && ev.Judged && !m.stream[j].past && ev.Generation == k.table[i].generation(k.now)
		}
		if !waits && !c.Probing() {
			m.record(c, at, m.plain[i])
			m.plain[i] = nil
		}
	}
}

func (b *bench) tick() []Repair {
	at := b.m.clock(b.k)
	b.m.catchUp(b.k, at)
	if b.m.group.NextDeadline() <= at {
		b.m.events = b.m.group.Advance(at, b.m.events)
	}
	return b.book.Advance(b.k.now)
}

// compare fails if the book's circuits are not what the model's are.
func (b *bench) compare() {
	b.Helper()
	for i, a := range b.accounts {
		c := b.m.circuits[i]
		if got, want := a.Status(), c.Status(); got != want {
			b.Fatalf("circuit %d is %+v, want %+v; %s", i, got, want, &b.k.table[i])
		}
		at := breaker.Time(b.k.now)
		if got, want := numbers(a.Metric(at), b.settings.Window.Type), numbers(c.Metric(at), b.settings.Window.Type); got != want {
			b.Fatalf("the window of circuit %d holds %s, want %s; %s", i, got, want, &b.k.table[i])
		}
	}
	if got, want := names(b.events), names(b.m.events); !slices.Equal(got, want) {
		b.Fatalf("events\n%v\nwant\n%v", got, want)
	}
}

// numbers is what of a window does not depend on which of several plain successes took how long.
func numbers(m breaker.Metric, w breaker.WindowType) string {
	s := fmt.Sprintf("%d outcomes, %d failures, %d slow, %d timed", m.Total, m.Failures, m.Slow, m.Timed)
	if mean, ok := m.AvgMillis(); ok && w == breaker.WindowTime {
		s += fmt.Sprintf(", %.6f ms on average", mean)
	}
	return s
}

// names leaves overflows out: of those of several plain successes only one is an event, but all are counted.
func names(events []breaker.Event) []string {
	all := []string{}
	for i := range events {
		e := &events[i]
		if e.Kind == breaker.EventOverflow {
			continue
		}
		all = append(all, fmt.Sprintf("%s %s %s->%s %s at %d until %d step %d generation %d, %d of %d failed", e.Kind, e.Backend, e.From, e.To,
			e.Reason, e.At, e.Until, e.Step, e.Generation, e.Window.Failures, e.Window.Total))
	}
	return all
}

// Without loss, a circuit of a book is at each moment what a breaker is that gets every outcome itself.
func TestBookAgreesWithBreaker(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBench(t, drawSettings(t), 1<<20)
		saved := make([]breaker.Snapshot, len(b.accounts))
		circuit := func() int { return rapid.IntRange(0, len(b.accounts)-1).Draw(t, "circuit") }
		take := func() call {
			if len(b.calls) == 0 {
				t.Skip("no call")
			}
			i := rapid.IntRange(0, len(b.calls)-1).Draw(t, "call")
			r := b.calls[i]
			b.calls = slices.Delete(b.calls, i, i+1)
			return r
		}
		pass := func(most time.Duration) {
			b.k.now += int64(rapid.Int64Range(1, int64(most/time.Millisecond)).Draw(t, "ms")) * int64(time.Millisecond)
		}
		admit := func(i int) (call, bool) { return b.admit(i, rapid.Float64Range(0, 1).Draw(t, "share")) }
		results := rapid.SampledFrom([]breaker.Result{200, 200, 200, 404, 500, 500, 503, breaker.ResultTimeout, breaker.ResultAborted})
		t.Repeat(map[string]func(*rapid.T){
			"": func(*rapid.T) { b.compare() },
			"admit": func(t *rapid.T) {
				if r, ok := admit(circuit()); ok {
					b.calls = append(b.calls, r)
				}
			},
			"serve": func(t *rapid.T) {
				i := circuit()
				for range rapid.IntRange(1, 12).Draw(t, "requests") {
					r, ok := admit(i)
					pass(30 * time.Millisecond)
					if ok {
						b.finish(r, results.Draw(t, "result"))
					}
				}
			},
			"send": func(*rapid.T) {
				r := take()
				r.sent = b.k.now
				b.calls = append(b.calls, r)
			},
			"finish": func(t *rapid.T) { b.finish(take(), results.Draw(t, "result")) },
			"leave": func(*rapid.T) {
				b.leave(take())
			},
			"pass": func(*rapid.T) { pass(400 * time.Millisecond) },
			"read": func(t *rapid.T) {
				if len(b.k.ring) == 0 {
					t.Skip("empty")
				}
				b.read()
				b.compare()
			},
			"tick": func(*rapid.T) {
				if r := b.tick(); len(r) > 0 {
					t.Fatalf("recovered %+v; nothing was lost", r)
				}
			},
			"read all, tick": func(*rapid.T) {
				b.readAll()
				if r := b.tick(); len(r) > 0 {
					t.Fatalf("recovered %+v; nothing was lost", r)
				}
			},
			"impose": func(t *rapid.T) {
				i := circuit()
				o := breaker.Override{Mode: rapid.SampledFrom([]breaker.Mode{breaker.ModeForcedOpen, breaker.ModeDisabled}).Draw(t, "mode"),
					Until: breaker.Time(b.k.now + int64(time.Second)), Who: "root"}
				at := b.m.clock(b.k)
				b.m.events = b.m.circuits[i].Impose(at, o, b.m.events)
				b.accounts[i].Impose(breaker.Time(b.k.now), o)
			},
			"auto": func(*rapid.T) {
				i, at := circuit(), b.m.clock(b.k)
				b.m.events = b.m.circuits[i].Auto(at, "root", "", b.m.events)
				b.accounts[i].Auto(breaker.Time(b.k.now), "root", "")
			},
			"close": func(*rapid.T) {
				i, at := circuit(), b.m.clock(b.k)
				b.m.events = b.m.circuits[i].Close(at, "root", "", b.m.events)
				b.accounts[i].Close(breaker.Time(b.k.now), "root", "")
			},
			"pending": func(*rapid.T) {
				i, since := circuit(), breaker.Time(b.k.now)
				b.m.circuits[i].SetOldestPending(since, true)
				b.accounts[i].SetOldestPending(since, true)
			},
			"save": func(*rapid.T) {
				for i, a := range b.accounts {
					saved[i] = a.Snapshot()
				}
			},
			"restart": func(t *rapid.T) {
				switch rapid.IntRange(0, 9).Draw(t, "state file") {
				case 0:
					b.restart(nil)
				case 1:
					b.restart(saved)
				case 2:
					for i, a := range b.accounts {
						saved[i] = a.Snapshot()
					}
					b.restart(saved)
				}
			},
		})
	})
}
