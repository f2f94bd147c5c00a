package ledger

import (
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
)

const ms = int64(time.Millisecond)

// streak opens after n failures in a row.
func streak(n int) breaker.Settings {
	s := breaker.DefaultSettings()
	s.Trip = breaker.Trip{Kind: breaker.TripConsecutiveFailures, N: n}
	s.Open.Duration = 100 * time.Millisecond
	s.HalfOpen = breaker.HalfOpen{Calls: 3, Concurrent: 2, Tolerate: 1, Timeout: 200 * time.Millisecond}
	return s
}

// serve has requests sent that end at once.
func (b *bench) serve(circuit int, results ...breaker.Result) {
	b.Helper()
	for _, result := range results {
		r, ok := b.admit(circuit, 0)
		if !ok {
			b.Fatalf("a request is rejected; %s", &b.k.table[circuit])
		}
		b.k.now += ms
		b.finish(r, result)
	}
}

// halfOpen opens a circuit and lets the time of the opening pass.
func (b *bench) halfOpen(circuit int) {
	b.Helper()
	for b.accounts[circuit].State() == breaker.StateClosed {
		b.serve(circuit, 500)
		b.readAll()
	}
	b.k.now += 200 * ms
	b.quiet(1)
	if got := b.accounts[circuit].State(); got != breaker.StateHalfOpen {
		b.Fatalf("it is %s, want half-open", got)
	}
}

// quiet makes n ticks in which nothing else happens, and returns what was recovered.
func (b *bench) quiet(n int) (repairs []Repair) {
	b.readAll()
	for range n {
		b.k.now += 100 * ms
		repairs = append(repairs, b.tick()...)
	}
	return repairs
}

// A probe that reported in time has reported in time, also when the agent reads of it late.
func TestTimeStopsAtUnreadEvents(t *testing.T) {
	b := newBench(t, streak(1), 100)
	b.halfOpen(0)
	b.k.now += ms
	probe, _ := b.admit(0, 0)
	b.readAll()
	b.finish(probe, 200)
	b.serve(1, 200, 200) // of the same group, and no event waits for these
	b.k.now += 300 * ms
	b.tick()
	if got, want := b.accounts[0].Status().Probes, (breaker.Probes{Used: 1, InFlight: 1}); got != want {
		t.Errorf("before the probe's outcome is read: %+v, want %+v", got, want)
	}
	if got := b.accounts[1].Metric(breaker.Time(b.k.now)).Total; got != 2 {
		t.Errorf("the other circuit has %d outcomes, want 2", got)
	}
	b.accounts[1].Impose(breaker.Time(b.k.now), breaker.Override{Mode: breaker.ModeDisabled, Until: breaker.Never})
	if got, want := b.accounts[0].Status().Probes, (breaker.Probes{Used: 1, InFlight: 1}); got != want {
		t.Errorf("after an override of another circuit: %+v, want %+v", got, want)
	}
	b.readAll()
	b.tick()
	if got, want := b.accounts[0].Status().Probes, (breaker.Probes{Used: 1, Finished: 1}); got != want {
		t.Errorf("when it is read: %+v, want %+v", got, want)
	}
}

// A failure that is still in the ring when the agent starts is none of the window that begins then.
func TestResumedEventsAreNotCountedTwice(t *testing.T) {
	b := newBench(t, streak(3), 100)
	b.serve(0, 200, 500, 200, 500)
	b.restart(nil)
	b.serve(0, 500)
	b.readAll()
	if got := b.accounts[0].Metric(breaker.Time(b.k.now)); got.Total != 1 || got.Failures != 1 {
		t.Errorf("the window holds %d outcomes, %d failures; want the one after the start", got.Total, got.Failures)
	}
	b.compare()
	if r := b.quiet(5); len(r) > 0 {
		t.Errorf("recovered %+v; nothing was lost", r)
	}
}

// The circuit keeps a probe that timed out; when the programs take its permit back they must not hand it out again.
func TestTimedOutProbeIsNotSentAgain(t *testing.T) {
	for name, end := range map[string]func(*bench, call){
		"unused":  (*bench).leave,
		"ignored": func(b *bench, r call) { b.finish(r, breaker.ResultAborted) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, streak(1), 100)
			b.halfOpen(0)
			probe, ok := b.admit(0, 0)
			if !ok {
				t.Fatal("no probe is admitted")
			}
			if r := b.quiet(6); len(r) > 0 {
				t.Errorf("recovered %+v; nothing was lost", r)
			}
			if got, want := b.k.Published(0).Concurrent, uint32(3); got != want {
				t.Errorf("%d probes may be in flight, want %d: one will not report", got, want)
			}
			end(b, probe)
			if r := b.quiet(6); len(r) > 0 {
				t.Errorf("recovered %+v; nothing was lost", r)
			}
			for range 2 {
				if _, ok := b.admit(0, 0); !ok {
					t.Fatalf("a probe is rejected; %s", &b.k.table[0])
				}
			}
			if _, ok := b.admit(0, 0); ok {
				t.Error("a fourth probe is admitted, want three")
			}
			b.readAll()
			b.compare()
		})
	}
}

// Each way in which probes are lost sight of is repaired, and only a full ring explains it.
func TestLostProbesAreRecovered(t *testing.T) {
	for name, c := range map[string]struct {
		lose func(*bench) // with a full ring
		want breaker.Probes
	}{
		"admission": {func(b *bench) { b.admit(0, 0) }, breaker.Probes{Used: 1, InFlight: 1}},
		"success":   {func(b *bench) { b.serve(0, 200) }, breaker.Probes{Used: 1, Finished: 1}},
		"failure":   {func(b *bench) { b.serve(0, 500) }, breaker.Probes{Used: 1, Finished: 1, Bad: 1}},
	} {
		for _, explained := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				s := streak(1)
				s.HalfOpen.Timeout = time.Minute
				b := newBench(t, s, 100)
				b.halfOpen(0)
				b.k.room = 0
				c.lose(b)
				b.k.room = 100
				lost := b.k.lost
				if !explained {
					b.k.lost = 0
				}
				repairs := b.quiet(2)
				if !explained {
					if len(repairs) > 0 {
						t.Errorf("recovered %+v at once, though nothing was lost", repairs)
					}
					repairs = b.quiet(5)
				}
				if got := b.accounts[0].Status().Probes; got != c.want {
					t.Errorf("it has %+v, want %+v", got, c.want)
				}
				if len(repairs) != 1 || !repairs[0].Probes || repairs[0].Account != b.accounts[0] {
					t.Fatalf("repairs %+v, want one of probes", repairs)
				}
				want := lost
				if explained {
					want = 0
				}
				if got := repairs[0].Unexplained; got != want {
					t.Errorf("%d events are not explained, want %d", got, want)
				}
			})
		}
	}
}

// An agent that is stopped while a half-open period begins and ends finds both when it goes on.
func TestStoppedOverHalfOpen(t *testing.T) {
	for result, want := range map[breaker.Result]breaker.Reason{200: breaker.ReasonProbesPassed, 500: breaker.ReasonProbeFailed} {
		b := newBench(t, streak(1), 100)
		b.serve(0, 500)
		b.readAll()
		b.quiet(0)
		b.k.room = 0
		b.serve(1, 500, 500, 500)
		b.k.now += 200 * ms
		b.serve(0, result, result, result)
		b.k.now += 300 * ms
		b.k.room = 100
		b.events = nil
		repairs := b.quiet(6)
		if len(b.events) < 2 || b.events[0].To != breaker.StateHalfOpen || b.events[1].Reason != want {
			t.Errorf("%v, want half-open, then its end because of %s; recovered %+v", names(b.events), want, repairs)
		}
		for _, r := range repairs {
			if r.Unexplained > 0 {
				t.Errorf("%+v is not explained", r)
			}
		}
	}
}

// An event that does not come though the ring is empty is recovered, but not explained.
func TestEventThatNeverCame(t *testing.T) {
	b := newBench(t, streak(3), 100)
	b.serve(0, 200, 500, 200)
	b.k.ring, b.m.stream = nil, nil
	if r := b.quiet(5); len(r) > 0 {
		t.Errorf("recovered %+v at once, though nothing was lost", r)
	}
	repairs := b.quiet(2)
	if len(repairs) != 1 || repairs[0].Lost != 1 || repairs[0].Failures != 1 || repairs[0].Unexplained != 1 {
		t.Errorf("repairs %+v, want one failure that is not explained", repairs)
	}
	if got := b.accounts[0].Metric(breaker.Time(b.k.now)); got.Total != 3 || got.Failures != 1 {
		t.Errorf("the window holds %d outcomes, %d failures; want 3 and 1", got.Total, got.Failures)
	}
}

// A probe that got no answer has failed, whoever ended it; one that says nothing of the backend gives its permit back.
func TestProbesWithoutAnswer(t *testing.T) {
	for result, failed := range map[breaker.Result]bool{
		breaker.ResultTimeout: true, breaker.ResultAbandoned: true, breaker.ResultUnreachable: true,
		breaker.ResultRaced: false, breaker.ResultAborted: false,
	} {
		b := newBench(t, streak(1), 100)
		b.halfOpen(0)
		b.serve(0, result)
		b.readAll()
		want := breaker.Probes{}
		if failed {
			want = breaker.Probes{Used: 1, Finished: 1, Bad: 1}
		}
		if got := b.accounts[0].Status().Probes; got != want {
			t.Errorf("%s: %+v, want %+v", result, got, want)
		}
	}
}

// A circuit that leaves has no account, and nothing is published for it any more.
func TestRemove(t *testing.T) {
	s := streak(1)
	s.Ejection.MaxPercent = 50
	b := newBench(t, s, 100)
	b.serve(0, 500)
	b.readAll()
	b.events = nil
	b.serve(1, 500)
	sets := b.k.table[1].sets
	b.group.Remove(backends[1].String(), breaker.Time(b.k.now))
	if b.group.Known() != 1 || b.book.accounts[1] != nil || b.k.table[1].sets != sets {
		t.Errorf("%d known, account %v, %d verdicts", b.group.Known(), b.book.accounts[1], b.k.table[1].sets-sets)
	}
	if len(b.events) != 1 || b.events[0].Reason != breaker.ReasonEjectionLimit || b.k.Published(0).Kind != Closed {
		t.Errorf("events %v, %s; want the other closed again: one of one is too many", names(b.events), &b.k.table[0])
	}
	read := b.book.EventsRead()
	b.book.Apply(b.k.next())
	if b.book.EventsRead() != read+1 {
		t.Error("the event of a circuit that is gone is not counted as read")
	}
	b.group.Remove(backends[0].String(), breaker.Time(b.k.now))
	b.group.Remove(backends[0].String(), breaker.Time(b.k.now))
	if len(b.book.groups) != 0 {
		t.Error("a group without circuits is still advanced")
	}
}

// With scope: policy the one circuit stays until the last backend leaves.
func TestSharedCircuit(t *testing.T) {
	s := streak(1)
	s.Scope = breaker.ScopePolicy
	k := newPrograms(1, 10)
	k.table[0].policy = policyWord{rules: s.Outcome, needs: NeedsOf(&s)}
	b := NewBook(k, k.now)
	g, err := b.NewGroup("orders", s, 1, func([]breaker.Event) {})
	if err != nil {
		t.Fatal(err)
	}
	a := g.Open(0)
	a.Begin("a", breaker.Time(k.now))
	g.Join("b", breaker.Time(k.now))
	g.Remove("a", breaker.Time(k.now))
	if g.Known() != 1 || b.accounts[0] != a || a.Place() != 0 {
		t.Errorf("%d known, account %v; want the shared circuit to stay", g.Known(), b.accounts[0])
	}
	g.Remove("b", breaker.Time(k.now))
	if b.accounts[0] != nil {
		t.Error("the circuit outlives its last backend")
	}
}

// New settings judge from now on; what was judged before is in the window.
func TestUpdate(t *testing.T) {
	s := streak(5)
	b := newBench(t, s, 100)
	b.serve(0, 500, 500, 200)
	b.readAll()
	b.serve(1, 500)
	b.readAll()
	var events []breaker.Event
	s.Mode = breaker.ModeForcedOpen
	if err := b.group.Update(s, breaker.Time(b.k.now), func(e []breaker.Event) { events = append(events, e...) }); err != nil {
		t.Fatal(err)
	}
	if len(events) != 2 || events[0].Reason != breaker.ReasonReload || events[0].Window.Total != 3 || b.k.Published(0).Kind != ForcedOpen {
		t.Errorf("events %v, %s; want both circuits forced open, the first with 3 outcomes", names(events), &b.k.table[0])
	}
	s.Mode, s.HalfOpen.Calls = breaker.ModeEnforce, 2
	if err := b.group.Update(s, breaker.Time(b.k.now), func([]breaker.Event) {}); err != nil {
		t.Fatal(err)
	}
	b.settings = s
	b.serve(0, 500, 500, 500, 500, 500)
	for len(b.k.ring) > 0 {
		b.book.Apply(b.k.next())
	}
	s.HalfOpen.Calls = 3
	if err := b.group.Update(s, breaker.Time(b.k.now), func([]breaker.Event) {}); err != nil {
		t.Fatal(err)
	}
	if got := b.k.Published(0); got.Kind != Open || got.Calls != 3 {
		t.Errorf("%+v is in force, want an open verdict with 3 calls", got)
	}
	s.Scope = breaker.ScopePolicy
	if err := b.group.Update(s, breaker.Time(b.k.now), func([]breaker.Event) {}); err == nil || b.group.Settings().Scope != breaker.ScopeBackend {
		t.Errorf("another scope: error %v, scope %v in force", err, b.group.Settings().Scope)
	}
}

// An operator's orders are in force when the call returns, also those that change no state.
func TestOrders(t *testing.T) {
	b := newBench(t, streak(1), 100)
	a := b.accounts[0]
	b.serve(0, 500)
	b.readAll()
	if got := b.k.Published(0); got.Kind != Open || got.Step != 1 {
		t.Fatalf("%+v is in force, want an open verdict of step 1", got)
	}
	now := func() breaker.Time { return breaker.Time(b.k.now) }
	a.Close(now(), "root", "")
	if got := b.k.Published(0); got.Kind != Closed || got.Step != 0 {
		t.Errorf("%+v is in force, want a closed verdict of step 0", got)
	}
	a.Impose(now(), breaker.Override{Mode: breaker.ModeForcedOpen, Until: breaker.Never, Who: "root"})
	if got := b.k.Published(0); got.Kind != ForcedOpen || !got.Override || got.Until != 0 {
		t.Errorf("%+v is in force, want an operator's forced-open without an end", got)
	}
	a.Auto(now(), "root", "")
	if got := b.k.Published(0); got.Kind != Closed || got.Override {
		t.Errorf("%+v is in force, want the policy's closed", got)
	}
	if a.Status().Generation != 4 || b.group.Ejected() != 0 || b.group.NextDeadline() != breaker.Never {
		t.Errorf("generation %d, %d ejected, next deadline %d", a.Status().Generation, b.group.Ejected(), b.group.NextDeadline())
	}
}

func TestNewGroupChecksSettings(t *testing.T) {
	k := newPrograms(1, 1)
	if _, err := NewBook(k, k.now).NewGroup("orders", breaker.Settings{}, 1, nil); err == nil {
		t.Error("impossible settings are no error")
	}
}

// What has no account is counted and otherwise left alone.
func TestEventsOfNobody(t *testing.T) {
	k := newPrograms(1, 1)
	b := NewBook(k, k.now)
	b.Apply(&Event{Kind: EventLearn, Circuit: -1, At: 5})
	b.Apply(&Event{Kind: EventOutcome, Circuit: 7, At: 9})
	if b.EventsRead() != 2 || b.lastEventAt != 9 {
		t.Errorf("%d events up to %d, want 2 up to 9", b.EventsRead(), b.lastEventAt)
	}
}

// The probe of an earlier half-open period holds no permit of the next.
func TestVanishedProbeIsOfOnePeriod(t *testing.T) {
	b := newBench(t, streak(1), 100)
	b.halfOpen(0)
	b.admit(0, 0)
	b.quiet(6)
	if got, want := b.k.Published(0).Concurrent, uint32(3); got != want {
		t.Fatalf("%d probes may be in flight, want %d", got, want)
	}
	b.serve(0, 500)
	b.readAll()
	if got := b.k.Published(0); got.Generation != 4 || got.Concurrent != 2 {
		t.Errorf("%+v is in force, want the next opening, with 2 probes in flight", got)
	}
}

// In monitor a ramp admits all, and judges those within the share.
func TestRampInMonitor(t *testing.T) {
	s := streak(2)
	s.Mode = breaker.ModeMonitor
	s.HalfOpen = breaker.HalfOpen{Ramp: &breaker.Ramp{From: 0.5, To: 0.5, Over: time.Minute}}
	b := newBench(t, s, 100)
	b.serve(0, 500, 500)
	b.readAll()
	b.k.now += 200 * ms
	b.quiet(1)
	for _, share := range []float64{0.9, 0.9, 0.1} {
		r, ok := b.admit(0, share)
		if !ok {
			t.Fatal("a request is rejected")
		}
		b.finish(r, 500)
	}
	b.readAll()
	if got := b.accounts[0].Metric(breaker.Time(b.k.now)).Total; got != 1 || b.accounts[0].State() != breaker.StateHalfOpen {
		t.Errorf("the window holds %d, and it is %s; want the one within the share", got, b.accounts[0].State())
	}
	b.serve(0, 500)
	b.readAll()
	if got := b.accounts[0].State(); got != breaker.StateOpen {
		t.Errorf("it is %s, want open", got)
	}
	b.compare()
}

// Backends that were learned from traffic stay as long as there is some.
func TestLastOutcome(t *testing.T) {
	b := newBench(t, streak(3), 100)
	if got := b.accounts[0].LastOutcome(); got != 0 {
		t.Errorf("an outcome at %d, want none", got)
	}
	b.serve(0, 500)
	b.readAll()
	if got := b.accounts[0].LastOutcome(); got != b.k.now {
		t.Errorf("the last outcome was at %d, want %d", got, b.k.now)
	}
	b.serve(0, 200)
	b.tick()
	if got := b.accounts[0].LastOutcome(); got != b.k.now {
		t.Errorf("the last outcome was at %d, want %d", got, b.k.now)
	}
}

// The outcome of a probe is that of the permit that its connection took, also when its request was sent later.
func TestProbeIsSentLater(t *testing.T) {
	b := newBench(t, streak(1), 100)
	b.halfOpen(0)
	r, _ := b.admit(0, 0)
	b.k.now += 50 * ms
	r.sent = b.k.now
	b.k.now += ms
	b.finish(r, 200)
	b.readAll()
	if got, want := b.accounts[0].Status().Probes, (breaker.Probes{Used: 1, Finished: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	b.compare()
}
