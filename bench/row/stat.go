package row

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Median returns the middle of the values, the mean of the two middle ones if their number is even, NaN of none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(values))
	mid := len(s) / 2
	if len(s)%2 == 1 {
		return s[mid]
	}
	return (s[mid-1] + s[mid]) / 2
}

// Percentile returns the smallest of the values that at least p percent (0..100) do not exceed, NaN of none.
func Percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(float64(len(s))*p/100)) - 1
	return s[min(max(rank, 0), len(s)-1)]
}

// Estimate is a number and the interval in which it lies with 95 % confidence.
type Estimate struct {
	Value, Low, High float64
	Rounds           int
}

// resamples of a bootstrap. The seed is fixed, so that the same rows always give the same table.
const (
	resamples = 4000
	seed      = 1
)

// Bootstrap estimates f over n rounds: its value over all of them, and the percentile interval of its values over
// rounds drawn with replacement. f gets the rounds that were drawn; it takes all peers' values of the same rounds, so
// pairs stay pairs.
func Bootstrap(n int, f func(rounds []int) float64) Estimate {
	rounds := make([]int, n)
	for i := range rounds {
		rounds[i] = i
	}
	e := Estimate{Value: f(rounds), Rounds: n, Low: math.NaN(), High: math.NaN()}
	if n < 2 {
		return e
	}
	random := rand.New(rand.NewPCG(seed, seed))
	values := make([]float64, 0, resamples)
	for range resamples {
		for i := range rounds {
			rounds[i] = random.IntN(n)
		}
		if v := f(rounds); !math.IsNaN(v) {
			values = append(values, v)
		}
	}
	slices.Sort(values)
	if len(values) > 0 {
		e.Low = values[int(0.025*float64(len(values)))]
		e.High = values[min(int(0.975*float64(len(values))), len(values)-1)]
	}
	return e
}

// Resolved reports whether the interval excludes a value: else the rounds cannot tell on which side of it the number is.
func (e Estimate) Resolved(value float64) bool { return e.Low > value || e.High < value }
