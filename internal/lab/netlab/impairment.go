package netlab

import (
	"math/rand/v2"
	"time"
)

// Impairment is what a direction of a relay does to frames at random. The zero value does nothing.
type Impairment struct {
	Loss      float64 // probability that a frame is lost, 0..1
	Duplicate float64 // probability that a frame arrives twice, 0..1

	// Reorder is the probability, 0..1, that a frame is held until ReorderBy later ones have overtaken it (default 3), or
	// until ReorderFor has passed (default 10 ms), since there may be none.
	Reorder    float64
	ReorderBy  int
	ReorderFor time.Duration

	// Delay holds every frame, and up to Jitter more, evenly distributed. Frames keep their order.
	Delay, Jitter time.Duration
}

// Fate is a hook's decision on one frame. With the zero value the random impairment of the direction applies; with any
// other value only its delay does.
type Fate struct {
	Pass   bool          // neither lose, duplicate nor reorder it
	Drop   bool          // lose it
	Copies int           // carry so many more of it
	Delay  time.Duration // carry it so much later, while the frames behind it go on
}

// Hook decides about a frame, which it may read until it returns. A direction calls its hook for one frame after the other,
// in the order of their arrival. A hook calls no method of its relay.
type Hook func(frame []byte) Fate

// plan is the treatment of a frame.
type plan struct {
	lost   bool
	copies int           // besides the frame itself
	hold   bool          // until later frames have overtaken it
	delay  time.Duration // together with the frames behind it
	alone  time.Duration // without them
}

// plan draws the treatment of the next frame. Each frame takes the same number of random numbers, so that a change of one
// probability does not change the rest of the treatment.
func (i Impairment) plan(r *rand.Rand) plan {
	lost, duplicated, held, jitter := r.Float64(), r.Float64(), r.Float64(), r.Float64()
	p := plan{
		lost:  lost < i.Loss,
		hold:  held < i.Reorder,
		delay: i.Delay + time.Duration(jitter*float64(i.Jitter)),
	}
	if duplicated < i.Duplicate {
		p.copies = 1
	}
	return p
}

// apply replaces all of a plan except its delay by a hook's decision, if there is one.
func (f Fate) apply(p plan) plan {
	if f == (Fate{}) {
		return p
	}
	return plan{lost: f.Drop, copies: f.Copies, delay: p.delay, alone: f.Delay}
}

// withDefaults sets the defaults of ReorderBy and ReorderFor.
func (i Impairment) withDefaults() Impairment {
	if i.ReorderBy <= 0 {
		i.ReorderBy = 3
	}
	if i.ReorderFor <= 0 {
		i.ReorderFor = 10 * time.Millisecond
	}
	return i
}
