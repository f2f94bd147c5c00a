package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cbagent/cbagent/internal/console"
	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/view"
)

func newEventsCommand(e *env) *cobra.Command {
	var output string
	var follow bool
	var last int
	cmd := &cobra.Command{
		Use:   "events [POLICY | BACKEND | POLICY/BACKEND]",
		Short: "Show what happened to circuits, and why",
		Long: `Show the last records of the agent: each change of a circuit with what caused it, the numbers that decided, what was in
the window, how long it lasts, and who did it if it was done by hand. The agent keeps a thousand, also over restarts.

With -o trace it prints the outcomes themselves as they happen, until it is stopped, in the format that cbagent replay
reads: an incident can be replayed with another policy. Only then does the kernel tell the agent of plain successes one by
one. What this command is too slow for is left out and said on standard error; the agent never waits.`,
		Example: "  cbagent events orders --follow\n  cbagent events -o trace >incident.jsonl\n" +
			"  cbagent replay --policy stricter.yaml incident.jsonl",
		Args: cobra.MaximumNArgs(1),
	}
	socket := socketFlag(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text, json (one record a line) or trace")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with each new record")
	cmd.Flags().IntVarP(&last, "last", "n", 1000, "how many of the last records")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := oneOf("--output", output, "text", "json", "trace"); err != nil {
			return err
		}
		if last < 0 {
			return fmt.Errorf("--last: must be 0 or more, got %d", last)
		}
		ctx, stop := interruptible(cmd)
		defer stop()
		client := control.NewClient(*socket)
		defer client.Close()
		target := ""
		if len(args) > 0 {
			target = args[0]
		}
		missed := func(n uint64) { fmt.Fprintf(e.stderr, "cbagent: too slow, %d were missed\n", n) }
		if output == "trace" {
			return client.Trace(ctx, target, func(line []byte) error {
				_, err := fmt.Fprintf(e.stdout, "%s\n", line)
				return err
			}, missed)
		}
		return client.Events(ctx, target, last, follow, func(r view.Record) error { return printRecord(e, &r, output) }, missed)
	}
	return cmd
}

func printRecord(e *env, r *view.Record, output string) error {
	if output == "text" {
		_, err := fmt.Fprintln(e.stdout, console.Record(r))
		return err
	}
	enc := json.NewEncoder(e.stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(r)
}
