package agent

import (
	"testing"
	"time"
)

func TestSweepPause(t *testing.T) {
	for _, c := range []struct{ pause, want time.Duration }{
		{0, tick},
		{tick + time.Millisecond, tick + time.Millisecond},
		{maxSweepPause, maxSweepPause},
		{time.Minute, maxSweepPause},
	} {
		if got := sweepPause(tick, c.pause); got != c.want {
			t.Errorf("sweepPause(%s, %s) = %s, want %s", tick, c.pause, got, c.want)
		}
	}
}
