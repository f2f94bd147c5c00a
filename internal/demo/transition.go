package demo

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"
)

// Transition is a change of a circuit's state as the agent's log tells it.
type Transition struct {
	Backend   netip.AddrPort
	From, To  string
	Reason    string
	Value     float64
	Threshold float64
	At        time.Time // when the verdict was published to the kernel
}

// why tells the reason, with its numbers if it has any.
func (t Transition) why() string {
	if t.Threshold == 0 {
		return t.Reason
	}
	return fmt.Sprintf("%s: %g, allowed less than %g", t.Reason, t.Value, t.Threshold)
}

// logLine are the fields of the agent's JSON log that the demo reads.
type logLine struct {
	Level     string  `json:"level"`
	Msg       string  `json:"msg"`
	Err       string  `json:"err"`
	Backend   string  `json:"backend"`
	From      string  `json:"from"`
	To        string  `json:"to"`
	Reason    string  `json:"reason"`
	Value     float64 `json:"value"`
	Threshold float64 `json:"threshold"`
	AtUnixNs  int64   `json:"at_unix_ns"`
}

// Messages of the agent's log.
const (
	msgReady      = "ready"
	msgTransition = "transition"
)

// parseLine reads one line of the agent's log; ok is false for what is not JSON.
func parseLine(line []byte) (l logLine, ok bool) {
	return l, json.Unmarshal(line, &l) == nil
}

// transition returns the transition that the line tells of.
func (l logLine) transition() (Transition, error) {
	backend, err := netip.ParseAddrPort(l.Backend)
	if err != nil {
		return Transition{}, err
	}
	return Transition{
		Backend: backend, From: l.From, To: l.To, Reason: l.Reason, Value: l.Value, Threshold: l.Threshold,
		At: time.Unix(0, l.AtUnixNs),
	}, nil
}
