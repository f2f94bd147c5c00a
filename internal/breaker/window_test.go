package breaker

import (
	"fmt"
	"math"
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// recorded is an outcome of the model, which keeps all of them.
type recorded struct {
	at Time
	s  sample
}

// naive says what a window must say, by looking at every outcome there ever was since it was cleared.
func naive(shape *windowShape, all []recorded, now Time) (c counts, total *big.Int) {
	if shape.kind == WindowCount && uint64(len(all)) > shape.size {
		all = all[uint64(len(all))-shape.size:]
	}
	total = new(big.Int)
	for _, o := range all {
		if shape.kind == WindowTime {
			bucket := func(t Time) int64 { return int64(math.Floor(float64(t) / float64(shape.bucket))) }
			if bucket(o.at) <= bucket(now)-shape.buckets {
				continue
			}
		}
		c.total++
		if o.s.flags&sampleFailure != 0 {
			c.failures++
		}
		if o.s.flags&sampleTimed != 0 {
			c.timed++
			total.Add(total, new(big.Int).SetUint64(o.s.latency))
		}
		for slot := range shape.slots {
			if o.s.flags&(sampleSlow<<slot) != 0 {
				c.slow[slot]++
			}
		}
	}
	return c, total
}

func drawShape(t *rapid.T) windowShape {
	shape := windowShape{slots: rapid.IntRange(1, 3).Draw(t, "slots")}
	if rapid.Bool().Draw(t, "count window") {
		shape.kind, shape.size = WindowCount, rapid.Uint64Range(1, 12).Draw(t, "size")
	} else {
		shape.bucket = rapid.SampledFrom([]int64{1, 7, 1000, int64(time.Second)}).Draw(t, "bucket")
		shape.buckets = rapid.Int64Range(1, 6).Draw(t, "buckets")
	}
	return shape
}

func drawSample(t *rapid.T, slots int) sample {
	s := sample{flags: uint16(rapid.IntRange(0, sampleSlow<<slots-1).Draw(t, "flags"))}
	if s.flags&sampleTimed != 0 {
		s.latency = rapid.SampledFrom([]uint64{0, 1, 10, math.MaxUint64 / 3, math.MaxUint64}).Draw(t, "latency")
	}
	return s
}

func TestWindowAgainstAListOfOutcomes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shape := drawShape(t)
		w := window{end: math.MinInt64}
		var all []recorded
		now := Time(rapid.Int64Range(-5_000_000_000, 5_000_000_000).Draw(t, "start"))
		check := func(*rapid.T) {
			want, duration := naive(&shape, all, now)
			w.expire(&shape, now)
			got := w.counts
			sum := new(big.Int).SetUint64(got.high)
			sum.Lsh(sum, 64).Add(sum, new(big.Int).SetUint64(got.low))
			if sum.Cmp(duration) != 0 {
				t.Fatalf("duration %v, want %v", sum, duration)
			}
			if got.high, got.low = 0, 0; got != want {
				t.Fatalf("at %v: %+v, want %+v", now, got, want)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"":       check,
			"record": func(t *rapid.T) { record(t, &w, &shape, &all, now, 1) },
			"record many": func(t *rapid.T) {
				record(t, &w, &shape, &all, now, rapid.Uint64Range(2, 30).Draw(t, "n"))
			},
			"wait": func(t *rapid.T) {
				now += Time(rapid.Int64Range(0, max(shape.bucket, 1)*3/2).Draw(t, "wait"))
			},
			"long silence": func(t *rapid.T) {
				now += Time(max(shape.bucket, 1) * rapid.Int64Range(0, 20).Draw(t, "buckets"))
			},
			"clear": func(t *rapid.T) {
				w.clear()
				all = nil
			},
		})
	})
}

func record(t *rapid.T, w *window, shape *windowShape, all *[]recorded, now Time, n uint64) {
	s := drawSample(t, shape.slots)
	w.add(shape, now, s, n)
	for range n {
		*all = append(*all, recorded{at: now, s: s})
	}
}

func TestWindowExpiresOnReading(t *testing.T) {
	r := newRig(t, func(s *Settings) { s.Trip = consecutive(100) })
	c := r.circuit("a")
	for i := range Time(6) {
		r.at(i*sec).send(c, "FFFFFFFFFF")
	}
	if m := c.Metric(9*sec + 999*ms); m.Total != 60 {
		t.Fatalf("%d outcomes at 9.999 s, want 60", m.Total)
	}
	if m := c.Metric(10 * sec); m.Total != 50 {
		t.Fatalf("%d outcomes at 10 s, want 50", m.Total)
	}
	if m := c.Metric(600 * sec); m.Total != 0 {
		t.Fatalf("%d outcomes after ten idle minutes", m.Total)
	}
	if _, ok := c.Metric(600 * sec).FailureRate(); ok {
		t.Fatal("an empty window has a failure rate")
	}
}

func TestManyOutcomesDoNoHarm(t *testing.T) {
	for _, w := range []Window{{Type: WindowCount, Count: 100}, {Type: WindowTime, Size: 10 * time.Second, Bucket: time.Second}} {
		t.Run(fmt.Sprint(w.Type), func(t *testing.T) {
			r := newRig(t, func(s *Settings) { s.Window, s.Trip = w, never() })
			c := r.circuit("a")
			o := Outcome{Result: 200, HasLatency: true, Latency: time.Minute}
			total := uint64(0)
			for i := range Time(3) {
				for _, n := range []uint64{1 << 32, 1<<32 - 1, 3} {
					c.RecordN(i*ms, &o, n, nil)
					total += n
				}
			}
			o.Result = 500
			c.RecordN(4*ms, &o, 1<<31, nil)
			total += 1 << 31
			failures := uint64(1 << 31)
			if w.Type == WindowCount {
				total, failures = 100, 100
			}
			m := c.Metric(5 * ms)
			if m.Total != total || m.Failures != failures {
				t.Fatalf("total %d, failures %d; want %d, %d", m.Total, m.Failures, total, failures)
			}
			if mean, _ := m.AvgDuration(); mean != time.Minute {
				t.Fatalf("mean %v", mean)
			}
			r.at(86400*30*sec).send(c, "SF")
			if m := c.Metric(r.now); w.Type == WindowTime && (m.Total != 2 || m.Failures != 1 || m.TotalDuration() != 200*time.Millisecond) {
				t.Fatalf("after a month: %+v", m)
			}
		})
	}
}

func TestClockStepsBackDoNoHarm(t *testing.T) {
	r := newRig(t, nil)
	c := r.circuit("a")
	r.at(100*sec).send(c, "SS")
	r.now = 50 * sec
	r.send(c, "FFFFF")
	r.wantEvents("100 closed>open consecutiveFailures")
	r.at(40 * sec)
	r.wantState(c, StateOpen)
	if until := c.Status().Until; until != 130*sec {
		t.Fatalf("until %v", until)
	}
}
