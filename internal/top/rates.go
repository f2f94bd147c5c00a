package top

import (
	"time"

	"github.com/cbagent/cbagent/internal/control"
)

// points is how many rates a curve has at most.
const points = 60

// row is a circuit and the rates at which its counts grow.
type row struct {
	control.Circuit
	requests []float64 // admitted a second, oldest first
	away     []float64 // rejected a second
}

// latest returns the newest of the rates, 0 when there is none yet.
func latest(rates []float64) float64 {
	if len(rates) == 0 {
		return 0
	}
	return rates[len(rates)-1]
}

type key struct{ policy, direction, backend string }

func keyOf(c *control.Circuit) key { return key{c.Policy, c.Direction, c.Backend} }

// update returns the rows of a new status, with the curves of the rows before it.
func update(before map[key]*row, last time.Time, s *control.Status) map[key]*row {
	rows := map[key]*row{}
	seconds := s.Time.Sub(last).Seconds()
	for i := range s.Policies {
		for _, c := range s.Policies[i].Circuits {
			r := &row{Circuit: c}
			if old := before[keyOf(&c)]; old != nil {
				r.requests, r.away = old.requests, old.away
				// Counts that decrease are those of another agent, or of a backend that was removed and added again.
				if seconds > 0 && c.Admitted >= old.Admitted && c.AllRejected() >= old.AllRejected() {
					r.requests = push(r.requests, float64(c.Admitted-old.Admitted)/seconds)
					r.away = push(r.away, float64(c.AllRejected()-old.AllRejected())/seconds)
				}
			}
			rows[keyOf(&c)] = r
		}
	}
	return rows
}

func push(rates []float64, rate float64) []float64 {
	rates = append(rates, rate)
	return rates[max(0, len(rates)-points):]
}
