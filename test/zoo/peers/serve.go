package main

import (
	"bufio"
	"context"
	"maps"
	"os"
	"sync"
	"time"
)

// tally counts how calls have ended.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
}

func newTally() *tally { return &tally{counts: map[string]int{}} }

func (t *tally) add(result string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts[result]++
}

func (t *tally) all() (map[string]int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.counts), nil
}

// control is a server's side of its standard input and output: it returns when the input has ended.
func control(counts func() (map[string]int, error)) error {
	out := newPrinter()
	out.print(map[string]bool{"ready": true})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		n, err := counts()
		if err != nil {
			return err
		}
		out.print(map[string]any{"counts": n})
	}
	return lines.Err()
}

// pause waits, or returns an error if the client has ended the call before.
func pause(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
