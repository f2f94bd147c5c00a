package breaker

// Lost counts outcomes of probes whose events were lost.
type Lost struct {
	Failures int // of an unknown class
	Slow     int // slow successes
	Plain    int // other successes
}

// Reconcile updates a half-open period of that generation from the kernel's counts, when events of its probes were lost:
// used is how many permits are taken and not returned, lost are the outcomes of lost events. It takes unreported probes to
// have been admitted at now. It assigns outcomes, and returned permits, to the oldest probes. A later outcome with a permit
// that fits no probe is that of an unreported one.
func (c *Circuit) Reconcile(now Time, generation uint32, used int, lost Lost, buf []Event) []Event {
	now, buf = c.group.clock(now, buf)
	h := c.half
	if h == nil || c.generation != generation {
		return buf
	}
	for h.Used < used {
		c.admit(now).guessed = true
	}
	surely := c.group.plan.surely
	c.finishLost(now, lost.Plain, sample{})
	c.finishLost(now, lost.Slow, sample{flags: surely})
	c.finishLost(now, lost.Failures, sample{flags: sampleFailure})
	for h.Used > used && h.InFlight > 0 {
		c.giveBack(h.oldestAt())
	}
	if lost.Plain+lost.Slow+lost.Failures > 0 {
		buf = c.decide(now, ReasonProbeFailed, buf)
	}
	if c.half == h {
		c.schedule()
	}
	return buf
}

func (c *Circuit) finishLost(now Time, n int, s sample) {
	h, o := c.half, Outcome{Result: resultPlain}
	if s.flags&sampleFailure != 0 {
		o.Result = resultLost
	}
	for ; n > 0; n-- {
		if h.InFlight == 0 {
			c.admit(now)
		}
		h.remove(h.oldestAt())
		h.Finished++
		if s.flags&(sampleFailure|sampleSlow) != 0 {
			h.Bad++
		}
		c.learn(now, &o, s, 1)
	}
}
