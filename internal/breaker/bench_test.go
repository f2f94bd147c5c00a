package breaker

import (
	"strconv"
	"testing"
	"time"
)

func benchGroup(b *testing.B, change func(*Settings)) *Circuit {
	s := DefaultSettings()
	change(&s)
	g, err := NewGroup("bench", s, 1)
	if err != nil {
		b.Fatal(err)
	}
	return g.Add("10.0.0.7:8080", 0)
}

// BenchmarkRecord is one outcome of a closed circuit, nine in ten successes, a microsecond apart.
func BenchmarkRecord(b *testing.B) {
	for name, change := range map[string]func(*Settings){
		"time":  func(*Settings) {},
		"count": func(s *Settings) { s.Window = Window{Type: WindowCount, Count: 100} },
		"time/every tripper": func(s *Settings) {
			s.Outcome.Slow = time.Second
			s.Trip.Children = append(s.Trip.Children,
				Trip{Kind: TripAll, Children: []Trip{{Kind: TripMinCalls, N: 20}, {Kind: TripSlowRate, Rate: 0.5}}},
				Trip{Kind: TripAvgLatency, Over: time.Second},
				Trip{Kind: TripAll, Children: []Trip{{Kind: TripFailureCount, N: 200_000_000}, {Kind: TripMinClients, N: 3}}})
		},
	} {
		b.Run(name, func(b *testing.B) {
			c := benchGroup(b, change)
			buf := make([]Event, 0, 4)
			good := Outcome{Result: 200, Latency: 3 * time.Millisecond, HasLatency: true}
			bad := good
			bad.Result = 503
			now := Time(0)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				now += 1000
				o := &good
				if i%10 == 9 {
					o = &bad
				}
				o.Latency += 1
				_, buf = c.Record(now, o, buf[:0])
			}
			if c.State() != StateClosed {
				b.Fatal(c.State())
			}
		})
	}
}

// BenchmarkOutlier compares one of a thousand backends with the others at each outcome.
func BenchmarkOutlier(b *testing.B) {
	s := DefaultSettings()
	s.Trip = Trip{Kind: TripSuccessRateOutlier, Stdev: 50, MinBackends: 5, N: 100}
	g, err := NewGroup("bench", s, 1)
	if err != nil {
		b.Fatal(err)
	}
	circuits := make([]*Circuit, 1000)
	for i := range circuits {
		circuits[i] = g.Add(strconv.Itoa(i), 0)
		circuits[i].RecordN(0, &Outcome{Result: 500}, uint64(i%7), nil)
		circuits[i].RecordN(0, &Outcome{Result: 200}, 200, nil)
	}
	o := Outcome{}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		o.Result = 200
		if i%10 == 9 {
			o.Result = 500
		}
		circuits[i%1000].Record(Time(i)*1000, &o, nil)
	}
}
