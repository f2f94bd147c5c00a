package breaker

// Lost counts outcomes of probes of which only the numbers are known.
type Lost struct {
	Failures int // of an unknown class
	Slow     int // slow successes
	Plain    int // other successes
}

// Reconcile brings a half-open period of that generation in line with whoever admits its probes, when news of some was
// lost: used is how many permits are taken and not given back, lost are outcomes that were not told of. Probes that were
// not told of are taken to have been admitted at now; outcomes are those of the oldest probes, and so are permits that
// came back. An outcome with a permit that fits no probe is that of one that was not told of.
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
