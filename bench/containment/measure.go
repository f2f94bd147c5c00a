package containment

import (
	"time"
)

// goodInARow answers of 200 show that a peer has let its clients back.
const goodInARow = 20

// values computes what a trial shows.
//
//	sent       requests that clients sent while the backend failed
//	leaked     of those, how many reached it before the first pause of half an open time: until it was contained
//	contained  1, or 0 if there was no such pause
//	contain_ms from the failure to the last that leaked
//	probes_rps requests a second that reached the backend from then on, while it failed
//	hurt       clients who got neither a 200 nor a 503 while the backend failed
//	over       leaked beyond threshold - 1 and what was in flight when the last of threshold failures reached the backend
//	health_checks of the whole trial, which are not among the requests
//	recover_ms from healing to the first of 20 requests in a row that are answered with 200; absent if there were none
func (t trial) values() map[string]float64 {
	v := map[string]float64{"health_checks": float64(t.checks)}
	for _, c := range t.calls {
		if !c.began.Before(t.failed) && c.began.Before(t.healed) {
			v["sent"]++
			if !c.good && !c.rejected {
				v["hurt"]++
			}
		}
	}
	var during []time.Time
	for _, at := range t.arrivals {
		if !at.Before(t.failed) && at.Before(t.healed) {
			during = append(during, at)
		}
	}
	leaked, last := 0, t.failed
	for i, at := range during {
		if at.Sub(last) >= open/2 && i > 0 {
			break
		}
		leaked, last = i+1, at
	}
	v["leaked"] = float64(leaked)
	v["contain_ms"] = float64(last.Sub(t.failed)) / float64(time.Millisecond)
	v["contained"] = 0
	if t.healed.Sub(last) >= open/2 {
		v["contained"] = 1
		v["probes_rps"] = float64(len(during)-leaked) / t.healed.Sub(last).Seconds()
	}
	if leaked >= threshold {
		inFlight := 0
		for _, c := range t.calls {
			if c.began.Before(during[threshold-1]) && c.ended.After(during[threshold-1]) {
				inFlight++
			}
		}
		v["in_flight"] = float64(inFlight)
		v["over"] = float64(leaked - (threshold - 1) - inFlight)
	}
	if ms, ok := t.recovery(); ok {
		v["recover_ms"] = ms
	}
	return v
}

// recovery returns the milliseconds from healing to the first of goodInARow requests that were all good.
func (t trial) recovery() (float64, bool) {
	good := 0
	var first time.Time
	for _, c := range t.calls {
		if c.began.Before(t.healed) {
			continue
		}
		if !c.good {
			good = 0
			continue
		}
		if good++; good == 1 {
			first = c.began
		}
		if good == goodInARow {
			return float64(first.Sub(t.healed)) / float64(time.Millisecond), true
		}
	}
	return 0, false
}
