package main

import (
	"bytes"
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/cbagent/cbagent/internal/console"
	"github.com/cbagent/cbagent/internal/control"
)

func newStatusCommand(e *env) *cobra.Command {
	var output string
	var watch bool
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "status [POLICY | BACKEND | POLICY/BACKEND]",
		Short: "Show circuits, and why those that are not closed are not",
		Long: `Show what the running agent does: what is wrong with it, one line for each circuit, and of each circuit that is not
closed what happened, what it cost, what comes next and how to undo it. A backend goes by ADDRESS:PORT or by the name of
its pod.

OUTCOMES, FAILED and SLOW are those of the circuit's window now; P99 and REJECTED count from the moment the backend
became known. A * behind the state marks a circuit that an operator had a hand in. A backend to which connections are made
and no request was seen is named above the table; in json, other_protocols says what connections begin with instead.`,
		Example: "  cbagent status\n  cbagent status orders -o wide --watch\n  cbagent status 10.0.0.7:8080 -o json",
		Args:    cobra.MaximumNArgs(1),
	}
	socket := socketFlag(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table, wide, json or yaml")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again and again")
	cmd.Flags().DurationVar(&every, "every", time.Second, "with --watch: how often (100ms or more)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := oneOf("--output", output, "table", "wide", "json", "yaml"); err != nil {
			return err
		}
		ctx, stop := interruptible(cmd)
		defer stop()
		client := control.NewClient(*socket)
		defer client.Close()
		target := ""
		if len(args) > 0 {
			target = args[0]
		}
		if !watch {
			return showStatus(ctx, e, client, target, output)
		}
		clock := time.NewTicker(max(every, 100*time.Millisecond))
		defer clock.Stop()
		for {
			// Rendered into memory first: a terminal that is cleared and filled by one write does not flicker.
			var screen bytes.Buffer
			if err := showStatus(ctx, &env{stdout: &screen, stderr: e.stderr}, client, target, output); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
			if output == "table" || output == "wide" {
				_, _ = e.stdout.Write([]byte("\x1b[H\x1b[2J"))
			}
			if _, err := screen.WriteTo(e.stdout); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return nil
			case <-clock.C:
			}
		}
	}
	return cmd
}

func showStatus(ctx context.Context, e *env, client *control.Client, target, output string) error {
	s, err := client.Status(ctx, target)
	if err != nil {
		return err
	}
	switch output {
	case "json":
		return printJSON(e, s)
	case "yaml":
		return printYAML(e, s)
	}
	return console.Status(e.stdout, &s, output == "wide")
}
