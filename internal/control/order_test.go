package control

import (
	"strings"
	"testing"
	"time"
)

func TestHowLongAnOrderLasts(t *testing.T) {
	for _, c := range []struct {
		action  string
		seconds float64
		want    time.Duration
		err     string
	}{
		{ActionOpen, 0, 0, ""},
		{ActionOpen, 1, time.Second, ""},
		{ActionDisable, 1.5, 1500 * time.Millisecond, ""},
		{ActionOpen, 365 * 24 * 3600, maxFor, ""},
		{ActionOpen, 0.1, 0, "for: must be between 1s and 8760h0m0s, got 0.1s"},
		{ActionDisable, 0.999, 0, "for: must be between 1s and 8760h0m0s, got 0.999s"},
		{ActionOpen, 365*24*3600 + 1, 0, "for: must be between 1s and 8760h0m0s"},
		{ActionClose, 0.1, 0, "for: close is done once"},
		{ActionAuto, 1, 0, "for: auto is done once"},
	} {
		order, err := (&Override{Action: c.action, Target: "orders", Reason: "test", ForSeconds: c.seconds}).check()
		switch {
		case c.err == "" && (err != nil || order.For != c.want):
			t.Errorf("%s for %gs: %s, %v, want %s", c.action, c.seconds, order.For, err, c.want)
		case c.err != "" && (err == nil || !strings.HasPrefix(err.Error(), c.err)):
			t.Errorf("%s for %gs: %v, want %q", c.action, c.seconds, err, c.err)
		}
	}
}
