package console

import (
	"fmt"
	"io"
	"time"

	"github.com/cbagent/cbagent/internal/control"
)

// Changes writes what an override did, a line for each circuit.
func Changes(w io.Writer, all []control.Change, now time.Time) error {
	for i := range all {
		c := &all[i]
		text := fmt.Sprintf("%s/%s: ", c.Policy, c.Backend)
		if c.From == c.To {
			text += "stays " + c.To
		} else {
			text += c.From + " -> " + c.To
		}
		if c.Until != nil {
			text += fmt.Sprintf(" until %s (%s)", c.Until.Local().Format("15:04:05"), Age(c.Until.Sub(now).Round(100*time.Millisecond)))
		}
		if c.Note != "" {
			text += " (" + c.Note + ")"
		}
		if _, err := fmt.Fprintln(w, text); err != nil {
			return err
		}
	}
	return nil
}
