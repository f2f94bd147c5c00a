package loader

import (
	"math/big"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -output-stem decide -type decide_args -type question decide ../../bpf/test/decide.bpf.c -- -O2 -g -mcpu=v3 -Wall -Werror -Wno-unused-function -Wpadded -I../../bpf -idirafter /usr/include/x86_64-linux-gnu

// decider asks the programs' own code for decisions at any time.
type decider struct {
	t    *testing.T
	d    *Datapath
	prog *ebpf.Program
}

func newDecider(t *testing.T, r *rig) *decider {
	t.Helper()
	spec, err := loadDecide()
	if err != nil {
		t.Fatal(err)
	}
	maps := map[string]*ebpf.Map{
		"targets": r.d.objs.Targets, "circuits": r.d.objs.Circuits, "policies": r.d.objs.Policies, "node": r.d.objs.Node,
		"statuses": r.d.objs.Statuses, "events": r.d.objs.Events,
	}
	for name, m := range maps {
		spec.Maps[name].MaxEntries = m.MaxEntries()
	}
	var objs decideObjects
	err = spec.LoadAndAssign(&objs, &ebpf.CollectionOptions{MapReplacements: maps})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := objs.Close(); err != nil {
			t.Error(err)
		}
	})
	return &decider{t, r.d, objs.Decide}
}

func (d *decider) ask(a decideDecideArgs) decideDecideArgs {
	ret, err := d.prog.Run(&ebpf.RunOptions{Context: &a, ContextOut: &a})
	if err != nil || ret != 0 {
		d.t.Errorf("decide: returned %d, %v", ret, err)
	}
	return a
}

// seeded returns a source of random numbers whose seed is in the log.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// reference is what architecture and policy say of a circuit, in Go.
type reference struct {
	v              ledger.Verdict
	used, inFlight uint32
}

func (m *reference) halfOpen(now int64) bool { return m.v.Kind == ledger.Open && now >= m.v.Until }

// ask returns the reason, the generation in which the outcome is judged, and when to try again.
func (m *reference) ask(now int64, random uint32) (bpf.CReason, uint32, int64) {
	switch {
	case m.v.Kind == ledger.Closed:
		return bpf.CReasonREASON_ADMITTED, m.v.Generation, 0
	case m.v.Kind == ledger.Disabled:
		return bpf.CReasonREASON_ADMITTED, 0, 0
	case m.v.Kind == ledger.ForcedOpen:
		return bpf.CReasonREASON_FORCED_OPEN, 0, m.v.Until
	case !m.halfOpen(now):
		return bpf.CReasonREASON_OPEN, 0, m.v.Until
	case m.v.RampOver > 0:
		share := m.v.RampTo
		if elapsed := now - m.v.Until; elapsed < int64(m.v.RampOver) {
			share = m.v.RampFrom + (m.v.RampTo-m.v.RampFrom)*float64(elapsed)/float64(m.v.RampOver)
		}
		drawn := float64(random%shareAll) / shareAll
		// Where the two are as close as the arithmetic of the kernel is fine, either answer is right.
		if d := drawn - share; d < 0.001 && d > -0.001 {
			return bpf.CReasonREASON_MAX, 0, 0
		}
		if drawn < share {
			return bpf.CReasonREASON_ADMITTED, m.v.Generation + 1, 0
		}
		return bpf.CReasonREASON_HALF_OPEN, 0, 0
	case m.v.Calls == 0:
		return bpf.CReasonREASON_ADMITTED, m.v.Generation + 1, 0
	case m.used < m.v.Calls && m.inFlight < m.v.Concurrent:
		m.used++
		m.inFlight++
		return bpf.CReasonREASON_PROBE, m.v.Generation + 1, 0
	default:
		return bpf.CReasonREASON_HALF_OPEN, 0, 0
	}
}

func (m *reference) giveBack(now int64, generation uint32, unused bool) {
	current := m.v.Generation
	if m.halfOpen(now) {
		current++
	}
	if generation != current {
		return
	}
	m.inFlight--
	if unused {
		m.used--
	}
}

func randomVerdict(rnd *rand.Rand, generation uint32) ledger.Verdict {
	v := ledger.Verdict{Kind: ledger.Kind(rnd.IntN(4)), Generation: generation, Monitor: rnd.IntN(4) == 0, Override: rnd.IntN(4) == 0}
	if v.Kind == ledger.Open || (v.Kind == ledger.ForcedOpen || v.Kind == ledger.Disabled) && rnd.IntN(2) == 0 {
		v.Until = rnd.Int64N(int64(time.Hour))
	}
	if v.Kind != ledger.Open {
		return v
	}
	switch rnd.IntN(3) {
	case 0:
		v.RampOver = time.Duration(rnd.Int64N(int64(2*time.Hour))) + time.Millisecond
		v.RampFrom = rnd.Float64()
		v.RampTo = v.RampFrom + (1-v.RampFrom)*rnd.Float64()
	case 1:
		v.Calls = 1 + uint32(rnd.IntN(10))
		v.Concurrent = 1 + uint32(rnd.IntN(int(v.Calls)))
	}
	return v
}

func TestDecisionsAreThoseOfTheReference(t *testing.T) {
	r := newRig(t)
	r.put(backendV4, tables.PolicySettings{}, ledger.Verdict{Kind: ledger.Closed})
	d, rnd := newDecider(t, r), seeded(t)
	for round := range 300 {
		m := &reference{v: randomVerdict(rnd, uint32(round*2+1))}
		r.d.SetVerdict(1, m.v)
		if got := r.d.Published(1); got.Kind != m.v.Kind || got.Until != m.v.Until || got.Calls != m.v.Calls || got.Monitor != m.v.Monitor || got.Override != m.v.Override {
			t.Fatalf("published %+v, reads %+v", m.v, got)
		}
		var held []uint32 // generations of permits
		now := rnd.Int64N(int64(time.Hour))
		for range 40 {
			switch rnd.IntN(3) {
			case 0: // time goes on
				now += rnd.Int64N(int64(10 * time.Minute))
			case 1: // to the moment that matters, or just before
				if m.v.Until > now {
					now = m.v.Until - int64(rnd.IntN(2))
				}
			}
			if len(held) > 0 && rnd.IntN(3) == 0 {
				unused := rnd.IntN(2) == 1
				generation := held[0]
				if rnd.IntN(5) == 0 {
					generation++ // of some other time: nothing happens
				} else {
					held = held[1:]
				}
				m.giveBack(now, generation, unused)
				a := decideDecideArgs{Now: uint64(now), Circuit: 1, Question: uint32(decideQuestionQUESTION_RETURN), Generation: generation}
				if unused {
					a.Random = 1
				}
				d.ask(a)
			} else {
				random := rnd.Uint32()
				got := d.ask(decideDecideArgs{Now: uint64(now), Circuit: 1, Random: random})
				reason, generation, until := m.ask(now, random)
				if reason == bpf.CReasonREASON_MAX {
					continue
				}
				if got.Reason != uint32(reason) || got.Until != uint64(until) ||
					(got.Generation != generation && got.Reason < uint32(bpf.CReasonREASON_OPEN)) {
					t.Fatalf("verdict %+v at %d, random %d: the programs say reason %d, generation %d, until %d; expected %d, %d, %d",
						m.v, now, random, got.Reason, got.Generation, got.Until, reason, generation, until)
				}
				if reason == bpf.CReasonREASON_PROBE {
					held = append(held, generation)
				}
			}
			if p := r.d.Progress(1); p.Permits != m.used || p.InFlight != m.inFlight {
				t.Fatalf("verdict %+v: %d permits used, %d out; expected %d, %d", m.v, p.Permits, p.InFlight, m.used, m.inFlight)
			}
		}
	}
}

func TestRampIsLinear(t *testing.T) {
	r := newRig(t)
	r.put(backendV4, tables.PolicySettings{}, ledger.Verdict{
		Kind: ledger.Open, Generation: 1, Until: int64(time.Hour), RampOver: time.Minute, RampFrom: 0.1, RampTo: 0.8,
	})
	d := newDecider(t, r)
	for _, c := range []struct {
		after time.Duration
		share float64
	}{{0, 0.1}, {30 * time.Second, 0.45}, {59999 * time.Millisecond, 0.8}, {time.Minute, 0.8}, {24 * time.Hour, 0.8}} {
		// The largest number that is let through, by halving.
		lo, hi := uint32(0), uint32(shareAll)
		for lo < hi {
			mid := (lo + hi) / 2
			a := d.ask(decideDecideArgs{Now: uint64(time.Hour + c.after), Circuit: 1, Random: mid})
			if a.Reason == uint32(bpf.CReasonREASON_ADMITTED) {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		if got := float64(lo) / shareAll; got < c.share-1e-4 || got > c.share+1e-4 {
			t.Errorf("after %s the share is %f, expected %f", c.after, got, c.share)
		}
	}
}

// overRate says whether some span has more permissions than burst + limit x span / period.
func overRate(times []int64, s tables.PolicySettings) (i, j int, over bool) {
	period := big.NewInt(int64(s.RatePeriod))
	for i := range times {
		for j := i; j < len(times); j++ {
			// (j - i + 1 - burst) x period <= limit x span
			left := big.NewInt(int64(j - i + 1 - s.RateBurst))
			left.Mul(left, period)
			right := big.NewInt(times[j] - times[i])
			right.Mul(right, big.NewInt(int64(s.RateLimit)))
			if left.Cmp(right) > 0 {
				return i, j, true
			}
		}
	}
	return 0, 0, false
}

func TestRateLimitHoldsInEverySpan(t *testing.T) {
	r := newRig(t)
	d := newDecider(t, r)
	rnd := seeded(t)
	for range 30 {
		s := tables.PolicySettings{
			RateLimit: 1 + rnd.IntN(1000), RatePeriod: time.Duration(1+rnd.Int64N(int64(10*time.Second))) + time.Millisecond,
			RateBurst: 1 + rnd.IntN(50),
		}
		r.put(backendV4, s, ledger.Verdict{Kind: ledger.Closed})
		interval := int64(s.RatePeriod) / int64(s.RateLimit)
		now := rnd.Int64N(int64(time.Hour))
		var times []int64
		rejected := 0
		for range 400 {
			if rnd.IntN(20) == 0 {
				now += rnd.Int64N(int64(s.RateBurst+2) * (interval + 1))
			} else {
				now += rnd.Int64N(interval + 1)
			}
			a := d.ask(decideDecideArgs{Now: uint64(now), Circuit: 1, Question: uint32(decideQuestionQUESTION_RATE)})
			switch {
			case a.Yes == 0:
				rejected++
			case rnd.IntN(8) == 0: // rejected for another reason after all
				d.ask(decideDecideArgs{Now: uint64(now), Circuit: 1, Question: uint32(decideQuestionQUESTION_RETURN_RATE)})
			default:
				times = append(times, now)
			}
		}
		if i, j, over := overRate(times, s); over {
			t.Errorf("%d per %s, burst %d: %d permissions in %d ns", s.RateLimit, s.RatePeriod, s.RateBurst, j-i+1, times[j]-times[i])
		}
		if len(times) == 0 || rejected == 0 {
			t.Logf("%d per %s, burst %d: %d admitted, %d rejected", s.RateLimit, s.RatePeriod, s.RateBurst, len(times), rejected)
		}
	}
}

// A client that sends as fast as possible gets the configured limit: the burst at once, and then all of the rate.
func TestRateLimitIsReached(t *testing.T) {
	r := newRig(t)
	d := newDecider(t, r)
	for _, s := range []tables.PolicySettings{
		{RateLimit: 100, RatePeriod: time.Second, RateBurst: 100},
		{RateLimit: 1, RatePeriod: time.Second, RateBurst: 1},
		{RateLimit: 7, RatePeriod: 3 * time.Second, RateBurst: 20},
	} {
		r.put(backendV4, s, ledger.Verdict{Kind: ledger.Closed})
		const start, span = int64(time.Hour), 10 * time.Second
		n := 0
		for now := start; now <= start+int64(span); now += int64(5 * time.Millisecond) {
			for d.ask(decideDecideArgs{Now: uint64(now), Circuit: 1, Question: uint32(decideQuestionQUESTION_RATE)}).Yes == 1 {
				n++
			}
		}
		ideal := s.RateBurst + int(int64(s.RateLimit)*int64(span)/int64(s.RatePeriod))
		if n < ideal-1 || n > ideal {
			t.Errorf("%d per %s, burst %d: %d permissions in %s, expected %d", s.RateLimit, s.RatePeriod, s.RateBurst, n, span, ideal)
		}
	}
}

// onTwoCPUs runs two loops at the same time, which begin together.
func onTwoCPUs(n int, fn func(worker, i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for w := range 2 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer pin(w)()
			<-start
			for i := range n {
				fn(w, i)
			}
		}()
	}
	close(start)
	wg.Wait()
}

func TestDecisionsFromTwoCPUs(t *testing.T) {
	r := newRig(t)
	d := newDecider(t, r)
	s := tables.PolicySettings{MaxConnections: 5, RateLimit: 3, RatePeriod: time.Hour, RateBurst: 7}
	for round := range 200 {
		r.put(backendV4, s, halfOpen(4, 4))
		var got [3][2]int
		onTwoCPUs(8, func(w, _ int) {
			a := decideDecideArgs{Now: uint64(tables.Now()), Circuit: 1}
			if d.ask(a).Reason == uint32(bpf.CReasonREASON_PROBE) {
				got[0][w]++
			}
			a.Question = uint32(decideQuestionQUESTION_CONNECTION)
			got[1][w] += int(d.ask(a).Yes)
			a.Question = uint32(decideQuestionQUESTION_RATE)
			a.Now = uint64(time.Hour)
			got[2][w] += int(d.ask(a).Yes)
		})
		for i, want := range []int{4, 5, 7} {
			if n := got[i][0] + got[i][1]; n != want {
				t.Fatalf("round %d: %d %s, expected %d", round, n, []string{"permits", "connections", "rate permissions"}[i], want)
			}
		}
	}
}
