package console

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/cbagent/cbagent/internal/view"
)

// Age says how long something lasts in at most two units: 12s, 3m20s, 5h, 2d4h.
func Age(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < 10*time.Second:
		return strconv.FormatFloat(float64(d/(100*time.Millisecond))/10, 'f', -1, 64) + "s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return two(d, time.Minute, "m", time.Second, "s")
	case d < 24*time.Hour:
		return two(d, time.Hour, "h", time.Minute, "m")
	}
	return two(d, 24*time.Hour, "d", time.Hour, "h")
}

func two(d, big time.Duration, bigName string, small time.Duration, smallName string) string {
	text := fmt.Sprintf("%d%s", d/big, bigName)
	if rest := d % big / small; rest > 0 {
		text += fmt.Sprintf("%d%s", rest, smallName)
	}
	return text
}

// Percent says a rate, "-" when there is none.
func Percent(rate *float64) string {
	if rate == nil {
		return "-"
	}
	return strconv.FormatFloat(math.Round(*rate*1000)/10, 'f', -1, 64) + "%"
}

// Millis says a latency, "-" when there is none.
func Millis(ms *float64) string {
	switch {
	case ms == nil:
		return "-"
	case *ms < 10:
		return strconv.FormatFloat(math.Round(*ms*10)/10, 'f', -1, 64) + "ms"
	case *ms < 10_000:
		return strconv.FormatFloat(math.Round(*ms), 'f', -1, 64) + "ms"
	}
	return strconv.FormatFloat(math.Round(*ms/100)/10, 'f', -1, 64) + "s"
}

// number says a float without needless digits.
func number(f float64) string { return strconv.FormatFloat(math.Round(f*1e4)/1e4, 'f', -1, 64) }

// Because says why something happened, with the numbers that decided.
func Because(r *view.Record) string {
	text := r.Reason
	if r.Value != nil && r.Threshold != nil {
		text += " " + number(*r.Value) + " of " + number(*r.Threshold)
	}
	if r.By != "" {
		text += " by " + r.By
	}
	if r.Why != "" {
		text += ": " + r.Why
	}
	return text
}

// plural says how many.
func plural(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.FormatUint(n, 10) + " " + many
}
