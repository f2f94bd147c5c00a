// Package containment measures how many requests reach a backend after it began to fail, and how long its clients do
// without it after it has healed.
package containment

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cbagent/cbagent/bench/part"
	"github.com/cbagent/cbagent/bench/peer"
)

// Part is this part.
var Part = newPart("containment", false)

// Full measures every combination, which takes hours.
var Full = newPart("containment-full", true)

func newPart(name string, full bool) part.Part {
	about := "A backend serves well, then answers 500, hangs, refuses, loses its packets, or fails three requests of ten, and heals " +
		"after 2 to 3 s. Five failures in a row open for 1 s, time-outs are 0.5 s."
	if full {
		about += " Every combination of failure, rate, good time before and kind of connection: hours; not run unless named."
	}
	return part.Part{
		Name: name, About: about, Rounds: 10, Quick: 1,
		Run: func(ctx context.Context, r *part.Run) error { return run(ctx, r, cells(r.Quick, full)) },
	}
}

// together is how many requests a second are sent to all peers that are tried at the same time.
const together = 3200

func run(ctx context.Context, r *part.Run, all []cell) error {
	for _, c := range all {
		atOnce := max(1, int(together/c.rate))
		r.Log.Info("containment", "case", c.String(), "at once", atOnce)
		for round := range r.Rounds {
			if err := oneRound(ctx, r, c, round, atOnce); err != nil {
				if ctx.Err() != nil {
					return err
				}
				// One trial that could not be made is not worth the hour of the others, but is told.
				r.LeftOut(fmt.Sprintf("%s, round %d: %v", c, round, err))
			}
		}
		for _, who := range c.contestants() {
			if peer.Missing(who.kind) == nil && !slices.Contains(r.File.Peers(c.String()), who.name) {
				return fmt.Errorf("%s: %s could not be tried once: %v", c, who.name, r.File.Left)
			}
		}
	}
	return nil
}

// oneRound tries all peers of a cell, so many at once.
func oneRound(ctx context.Context, r *part.Run, c cell, round, atOnce int) error {
	var mu sync.Mutex
	var errs []error
	var tries sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for _, who := range part.Turn(c.contestants(), round) {
		if len(r.Peers(who.kind)) == 0 {
			continue
		}
		slots <- struct{}{}
		tries.Go(func() {
			t, err := try(ctx, r, c, who, phase(round))
			<-slots
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", who.name, err))
				return
			}
			r.Add(c.String(), who.name, round, t.values())
		})
		time.Sleep(20 * time.Millisecond) // starting an agent takes a core for a moment
	}
	tries.Wait()
	return errors.Join(errs...)
}
