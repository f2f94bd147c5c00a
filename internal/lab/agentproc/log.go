package agentproc

import (
	"encoding/json"
	"fmt"
	"time"
)

// Transition is a change of a circuit's state in the agent's log.
type Transition struct {
	Policy    string
	Backend   string // IP:port, or * for a circuit of a whole policy
	From, To  string // closed, open, half-open ...
	Reason    string
	Value     float64
	Threshold float64
	Step      int
	Until     time.Time     // when the state ends by itself; zero: never
	At        time.Time     // soon after the verdict was published to the kernel
	Took      time.Duration // from the cause to the verdict
}

// Why returns the reason, with its numbers if it has any.
func (t Transition) Why() string {
	if t.Threshold == 0 {
		return t.Reason
	}
	return fmt.Sprintf("%s %g of %g", t.Reason, t.Value, t.Threshold)
}

// logLine holds the fields of the agent's log that this package reads.
type logLine struct {
	Level          string  `json:"level"`
	Msg            string  `json:"msg"`
	Error          string  `json:"error"`
	Policy         string  `json:"policy"`
	Backend        string  `json:"backend"`
	From           string  `json:"from"`
	To             string  `json:"to"`
	Reason         string  `json:"reason"`
	Value          float64 `json:"value"`
	Threshold      float64 `json:"threshold"`
	Step           int     `json:"step"`
	AtUnixNs       int64   `json:"at_unix_ns"`
	VerdictSeconds float64 `json:"verdict_seconds"`

	Until time.Time `json:"until"`
}

// Messages of the agent's log.
const (
	msgReady      = "ready"
	msgTransition = "transition"
)

// parseLine reads one line of the log; ok is false if it is not a JSON object of the agent's.
func parseLine(line []byte) (l logLine, ok bool) {
	return l, json.Unmarshal(line, &l) == nil
}

// transition returns the transition that the line reports.
func (l logLine) transition() Transition {
	return Transition{
		Policy: l.Policy, Backend: l.Backend, From: l.From, To: l.To,
		Reason: l.Reason, Value: l.Value, Threshold: l.Threshold, Step: l.Step,
		Until: l.Until, At: time.Unix(0, l.AtUnixNs), Took: time.Duration(l.VerdictSeconds * float64(time.Second)),
	}
}

// opens reports whether the line is the opening of a circuit, by its policy or by an operator.
func (l logLine) opens() bool { return l.Policy != "" && (l.To == "open" || l.To == "forced-open") }
