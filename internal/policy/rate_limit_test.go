package policy

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// The datapath keeps the time between two permissions in whole nanoseconds: one permission per nanosecond is the highest rate.
func TestHighestRateLimit(t *testing.T) {
	for _, period := range []time.Duration{time.Millisecond, time.Second} {
		most := int(period)
		text := func(limit int) string {
			return "rateLimit: {limit: " + strconv.Itoa(limit) + ", period: " + Duration(period).String() + ", burst: 1}"
		}
		if got := mustOne(t, text(most)).RateLimit; got.Limit != most || got.Period != period {
			t.Errorf("%s: %+v", text(most), got)
		}
		if most == 1_000_000_000 {
			continue // one more is out of the range of limit
		}
		if _, err := parseOne(text(most + 1)); err == nil || !strings.Contains(err.Error(), "must be at most one in a nanosecond") {
			t.Errorf("%s: %v", text(most+1), err)
		}
	}
}
