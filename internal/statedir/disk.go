package statedir

import (
	"errors"
	"fmt"
	"time"
)

// ErrNoDisk marks the error of a call of the file system that has not returned in time.
var ErrNoDisk = errors.New("the disk does not answer")

// withDisk calls f, which works on path, and returns ErrNoDisk when it takes longer than the given time. Then f continues,
// and its result is lost.
func withDisk[T any](path string, within time.Duration, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	select {
	case r := <-done:
		return r.value, r.err
	case <-timeout.C:
		var none T
		return none, fmt.Errorf("%s: %w", path, ErrNoDisk)
	}
}
