package console

import (
	"fmt"
	"strings"
	"time"

	"github.com/cbagent/cbagent/internal/view"
)

// Record says one record in a line.
func Record(r *view.Record) string {
	var b strings.Builder
	b.WriteString(r.Time.Local().Format("2006-01-02 15:04:05.000"))
	if r.Policy != "" {
		fmt.Fprintf(&b, "  %s/%s", r.Policy, r.Backend)
	}
	switch r.Kind {
	case "transition":
		fmt.Fprintf(&b, "  %s -> %s", r.From, r.To)
	case "overflow":
		b.WriteString("  stays " + r.From + ": the ejection limits do not allow to open it")
	case "override":
		fmt.Fprintf(&b, "  stays %s, mode %s", r.From, r.Mode)
	case view.KindDroppedOverride:
		fmt.Fprintf(&b, "  left, and with it the override to %s", r.Mode)
	case view.KindLease:
		b.WriteString("  the agent was too late to renew its lease")
		if r.Value != nil {
			fmt.Fprintf(&b, ", %s let through", plural(uint64(*r.Value), "client was", "clients were"))
		}
	default:
		b.WriteString("  " + r.Kind)
	}
	b.WriteString("  " + Because(r))
	if w := r.Window; w != nil && w.Outcomes > 0 {
		fmt.Fprintf(&b, "  window: %s, %d failed", plural(w.Outcomes, "outcome", "outcomes"), w.Failures)
		if w.Slow > 0 {
			fmt.Fprintf(&b, ", %d slow", w.Slow)
		}
	}
	if r.Until != nil {
		fmt.Fprintf(&b, "  until %s (%s", r.Until.Local().Format("15:04:05"), Age(r.Until.Sub(r.Time).Round(100*time.Millisecond)))
		if r.JitterSeconds != 0 {
			fmt.Fprintf(&b, ", of it %+.3gs jitter", r.JitterSeconds)
		}
		b.WriteString(")")
	}
	if r.Step > 0 {
		fmt.Fprintf(&b, "  step %d", r.Step)
	}
	if r.Connections > 0 || r.InFlight > 0 {
		fmt.Fprintf(&b, "  %s, %d in flight", plural(r.Connections, "connection", "connections"), r.InFlight)
	}
	return b.String()
}
