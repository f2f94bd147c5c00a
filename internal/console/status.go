package console

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cbagent/cbagent/internal/control"
)

// maxExplained is how many circuits are explained one by one at most.
const maxExplained = 10

// Status writes what the agent is doing: what is wrong with it, a table of circuits, and why those that are not closed are
// not. wide adds columns.
func Status(w io.Writer, s *control.Status, wide bool) error {
	var b strings.Builder
	for _, p := range Problems(s) {
		fmt.Fprintf(&b, "! %s\n", p)
	}
	if b.Len() > 0 {
		b.WriteByte('\n')
	}
	table(&b, s, wide)
	explained := 0
	for i := range s.Policies {
		for j := range s.Policies[i].Circuits {
			c := &s.Policies[i].Circuits[j]
			if c.State == "closed" && c.Override == nil {
				continue
			}
			if explained++; explained <= maxExplained {
				b.WriteString("\n" + Explain(c, s.Time))
			}
		}
	}
	if explained > maxExplained {
		fmt.Fprintf(&b, "\nand %d more that are not closed\n", explained-maxExplained)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Problems says what is wrong with the agent itself.
func Problems(s *control.Status) []string {
	var all []string
	add := func(bad bool, format string, args ...any) {
		if bad {
			all = append(all, fmt.Sprintf(format, args...))
		}
	}
	a := &s.Agent
	add(!a.Ready, "the agent is not ready: %s", a.WaitsFor)
	add(a.ReloadError != "", "the policies in force are those of %s; reading them again failed: %s",
		a.PoliciesLoaded.Local().Format(time.DateTime), a.ReloadError)
	if a.StateError != "" {
		add(true, "the state file is not written since %s, a restart forgets who forced a circuit: %s",
			a.StateBehindSince.Local().Format(time.DateTime), a.StateError)
	}
	for _, i := range s.Interfaces {
		add(i.Wanted && !i.Attached, "nothing is enforced on interface %s: %s", i.Name, i.Why)
	}
	for i := range s.Policies {
		p := &s.Policies[i]
		add(p.DiscoveryError != "", "policy %s: %s", p.Name, p.DiscoveryError)
		add(p.DiscoveryError == "" && p.DiscoveryComplete && p.Backends == 0, "policy %s has no backend", p.Name)
		unread := unreadOf(p)
		add(unread != "", "%s", unread)
	}
	add(a.FlowsLimit > 0 && a.Flows >= a.FlowsLimit*9/10, "%d of at most %d connections are followed: raise --max-flows", a.Flows, a.FlowsLimit)
	return all
}

func table(w io.Writer, s *control.Status, wide bool) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	head := []string{"POLICY", "BACKEND", "STATE", "SINCE", "OUTCOMES", "FAILED", "SLOW", "P99", "CONNS", "INFLIGHT", "REJECTED"}
	if wide {
		head = append(head, "DIRECTION", "MODE", "STEP", "OPENINGS", "OVERFLOWS", "ADMITTED", "PERMITS", "UNTIL", "POD", "LAST")
	}
	row := func(cells []string) { fmt.Fprintln(t, strings.Join(cells, "\t")) }
	row(head)
	for i := range s.Policies {
		p := &s.Policies[i]
		if len(p.Circuits) == 0 {
			cells := []string{p.Name, "(none)"}
			row(append(cells, blanks(len(head)-len(cells))...))
		}
		for j := range p.Circuits {
			c := &p.Circuits[j]
			cells := []string{
				c.Policy, c.Backend, state(c), Age(s.Time.Sub(c.Since)), uint64text(c.Window.Outcomes), Percent(c.Window.FailureRate),
				Percent(c.Window.SlowRate), Millis(c.LatencyP99), uint64text(c.Connections), uint64text(c.InFlight), uint64text(c.AllRejected()),
			}
			if wide {
				cells = append(cells, more(c, s.Time)...)
			}
			row(cells)
		}
	}
	_ = t.Flush() // into memory
}

// state returns the state, with a star for an operator's override and a word when no client is rejected.
func state(c *control.Circuit) string {
	text := c.State
	if c.Mode == "monitor" {
		text += " (monitor)"
	}
	if c.Override != nil {
		text += "*"
	}
	return text
}

func more(c *control.Circuit, now time.Time) []string {
	permits, until, pod, last := "-", "-", "-", "-"
	if p := c.Probes; p != nil {
		permits = fmt.Sprintf("%d/%d", p.Used, p.Calls)
	}
	if c.Until != nil {
		until = Age(c.Until.Sub(now))
	}
	if len(c.Endpoints) == 1 && c.Endpoints[0].Pod != "" {
		pod = c.Endpoints[0].Namespace + "/" + c.Endpoints[0].Pod
	}
	if c.Last != nil {
		last = Because(c.Last)
	}
	return []string{
		c.Direction, c.Mode, strconv.Itoa(c.Step), uint64text(c.Openings), uint64text(c.Overflows), uint64text(c.Admitted),
		permits, until, pod, last,
	}
}

// Explain says of a circuit that is not closed what happened, what it cost, what comes next, and how to undo it.
func Explain(c *control.Circuit, now time.Time) string {
	var b strings.Builder
	name := c.Policy + "/" + c.Backend
	fmt.Fprintf(&b, "%s is %s for %s", name, c.State, Age(now.Sub(c.Since)))
	if len(c.Endpoints) == 1 && c.Endpoints[0].Pod != "" {
		fmt.Fprintf(&b, " (pod %s/%s)", c.Endpoints[0].Namespace, c.Endpoints[0].Pod)
	}
	if c.Last != nil {
		fmt.Fprintf(&b, ": %s", Because(c.Last))
		if w := c.Last.Window; w != nil && w.Outcomes > 0 {
			fmt.Fprintf(&b, " (%d of %s had failed)", w.Failures, plural(w.Outcomes, "outcome", "outcomes"))
		}
	}
	b.WriteString("\n")
	if c.Backend == "*" {
		name = c.Policy // a star would have to be quoted
	}
	if all := c.AllRejected(); all > 0 {
		fmt.Fprintf(&b, "  cost:  %s rejected since it left closed, %d since the backend is known%s\n",
			plural(c.RejectedSince, "client", "clients"), all, byReason(c.Rejected))
	}
	switch {
	case c.Override != nil:
		o := c.Override
		fmt.Fprintf(&b, "  hand:  %s by %s: %s", o.Mode, o.By, o.Why)
		if o.Until != nil {
			fmt.Fprintf(&b, " (ends in %s)", Age(o.Until.Sub(now)))
		}
		fmt.Fprintf(&b, "\n  undo:  cbagent auto %s --reason ...\n", name)
	case c.State == "open":
		if c.Until != nil {
			fmt.Fprintf(&b, "  next:  probes in %s\n", Age(c.Until.Sub(now)))
		}
		fmt.Fprintf(&b, "  undo:  cbagent close %s --reason ...\n", name)
	case c.State == "half-open":
		if p := c.Probes; p != nil {
			fmt.Fprintf(&b, "  next:  %d of %d probes sent, %d in flight, %d bad\n", p.Used, p.Calls, p.InFlight, p.Bad)
			if c.Yielded {
				b.WriteString("  idle:  no probe for long, so it does not count as ejected; to open again it needs room in the ejection limits\n")
			}
		}
		fmt.Fprintf(&b, "  undo:  cbagent close %s --reason ...\n", name)
	default:
		fmt.Fprintf(&b, "  cause: the policy's mode is %s\n", c.Mode)
	}
	return b.String()
}

func byReason(counts map[string]uint64) string {
	if len(counts) < 2 {
		return ""
	}
	var parts []string
	for _, reason := range []string{"open", "half-open", "forced-open", "connection-limit", "request-limit", "rate-limit"} {
		if n := counts[reason]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, reason))
		}
	}
	return ": " + strings.Join(parts, ", ")
}

func uint64text(n uint64) string { return strconv.FormatUint(n, 10) }

func blanks(n int) []string { return make([]string, n) }
