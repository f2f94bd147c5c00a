package row

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		of   []float64
		want float64
	}{
		{[]float64{3}, 3},
		{[]float64{3, 1, 2}, 2},
		{[]float64{4, 1, 3, 2}, 2.5},
	} {
		if got := Median(c.of); got != c.want {
			t.Errorf("median of %v: %v, want %v", c.of, got, c.want)
		}
	}
	if !math.IsNaN(Median(nil)) {
		t.Error("the median of nothing is a number")
	}
}

func TestPercentile(t *testing.T) {
	values := []float64{5, 1, 4, 2, 3}
	for p, want := range map[float64]float64{0: 1, 20: 1, 21: 2, 50: 3, 99: 5, 100: 5} {
		if got := Percentile(values, p); got != want {
			t.Errorf("%v: %v, want %v", p, got, want)
		}
	}
}

// The interval of a mean must hold the true mean about 95 times of 100.
func TestBootstrapCovers(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	const runs, n, mean = 200, 40, 10.0
	covered := 0
	for range runs {
		values := make([]float64, n)
		for i := range values {
			values[i] = mean + random.NormFloat64()
		}
		e := Bootstrap(n, func(rounds []int) float64 {
			sum := 0.0
			for _, r := range rounds {
				sum += values[r]
			}
			return sum / n
		})
		if e.Low <= mean && mean <= e.High {
			covered++
		}
		if e.Value < e.Low || e.Value > e.High {
			t.Errorf("%v lies outside of its interval", e)
		}
	}
	if covered < 88*runs/100 || covered == runs {
		t.Errorf("%d of %d intervals of 95 %% hold the mean", covered, runs)
	}
}

func TestResolved(t *testing.T) {
	e := Estimate{Value: 1.1, Low: 1.05, High: 1.2}
	for value, want := range map[float64]bool{1: true, 1.1: false, 1.3: true} {
		if e.Resolved(value) != want {
			t.Errorf("%v of %v: %v", value, e, !want)
		}
	}
}
