package replay

import (
	"encoding/json"
	"strconv"

	"github.com/cbagent/cbagent/internal/breaker"
)

// head begins an object: when, which circuit, what.
func (p *player) head(at breaker.Time, c *breaker.Circuit, event string) []byte {
	b := append(p.scratch[:0], `{"t":`...)
	b = appendSeconds(b, int64(at))
	b = append(b, ',')
	b = appendCircuit(b, c.Group().Name(), c.Backend())
	b = append(b, `,"event":"`...)
	b = append(b, event...)
	return append(b, '"')
}

func appendCircuit(b []byte, policy, backend string) []byte {
	b = append(b, `"policy":`...)
	b = appendString(b, policy)
	b = append(b, `,"backend":`...)
	return appendString(b, backend)
}

func appendString(b []byte, s string) []byte {
	text, err := json.Marshal(s)
	if err != nil {
		return append(b, `""`...)
	}
	return append(b, text...)
}

// line writes an object.
func (p *player) line(b []byte) {
	p.scratch = append(b, "}\n"...)
	p.out.Write(p.scratch) // a bufio.Writer keeps its error for Flush
}

func (p *player) writeEvent(e *breaker.Event) {
	b := p.head(e.At, e.Circuit, e.Kind.String())
	b = append(b, `,"from":"`...)
	b = append(b, e.From.String()...)
	b = append(b, `","to":"`...)
	b = append(b, e.To.String()...)
	b = append(b, `","reason":"`...)
	b = append(b, e.Reason.String()...)
	b = append(b, `","value":`...)
	b = appendOptional(b, e.Value, e.HasNumbers)
	b = append(b, `,"threshold":`...)
	b = appendOptional(b, e.Threshold, e.HasNumbers)
	b = append(b, `,"step":`...)
	b = strconv.AppendInt(b, int64(e.Step), 10)
	b = append(b, `,"until":`...)
	if e.Until == breaker.Never {
		b = append(b, "null"...)
	} else {
		b = appendSeconds(b, int64(e.Until))
	}
	p.line(b)
}

func (p *player) writeAttempt(c *breaker.Circuit, a *breaker.Admission) {
	b := p.head(p.now, c, "attempt")
	b = append(b, `,"admitted":`...)
	b = strconv.AppendBool(b, a.Admitted)
	if a.Mode == breaker.ModeMonitor {
		b = append(b, `,"would_admit":`...)
		b = strconv.AppendBool(b, a.WouldAdmit)
	}
	b = append(b, `,"state":"`...)
	b = append(b, a.State.String()...)
	p.line(append(b, '"'))
}

// inspect writes what the window says now.
func (p *player) inspect(r *record) {
	p.line(p.appendMetric(p.head(p.now, r.circuit, "metric"), r.circuit))
}

// summaries writes the end of every circuit that the trace named, in the order in which it named them.
func (p *player) summaries() {
	for _, r := range p.appeared {
		b := append(p.scratch[:0], `{"event":"summary",`...)
		b = appendCircuit(b, r.circuit.Group().Name(), r.circuit.Backend())
		p.line(p.appendMetric(b, r.circuit))
	}
}

func (p *player) appendMetric(b []byte, c *breaker.Circuit) []byte {
	m, s := c.Metric(p.now), c.Status()
	failureRate, hasFailureRate := m.FailureRate()
	slowRate, hasSlowRate := m.SlowRate()
	average, hasAverage := m.AvgMillis()
	b = append(b, `,"state":"`...)
	b = append(b, s.State.String()...)
	b = append(b, `","total":`...)
	b = strconv.AppendUint(b, m.Total, 10)
	b = append(b, `,"failures":`...)
	b = strconv.AppendUint(b, m.Failures, 10)
	b = append(b, `,"slow":`...)
	b = strconv.AppendUint(b, m.Slow, 10)
	b = append(b, `,"total_duration_ms":`...)
	b = appendFloat(b, m.TotalMillis())
	b = append(b, `,"failure_rate":`...)
	b = appendOptional(b, failureRate, hasFailureRate)
	b = append(b, `,"slow_rate":`...)
	b = appendOptional(b, slowRate, hasSlowRate)
	b = append(b, `,"avg_latency_ms":`...)
	b = appendOptional(b, average, hasAverage)
	b = append(b, `,"openings":`...)
	b = strconv.AppendUint(b, s.Openings, 10)
	b = append(b, `,"ejections_overflow":`...)
	return strconv.AppendUint(b, s.Overflows, 10)
}
