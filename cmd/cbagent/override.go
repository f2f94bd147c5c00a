package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/cbagent/cbagent/internal/console"
	"github.com/cbagent/cbagent/internal/control"
)

func newOpenCommand(e *env) *cobra.Command {
	return newOverrideCommand(e, control.ActionOpen, "Reject all clients of a backend, by hand",
		`Turn every client of the circuits away, whatever their backends do, until the time is over or cbagent auto takes it
back. Ejection limits are not asked. Of a whole policy it also holds for backends that come later.
It outlives a restart of the agent if circuits do: with --bpffs.`,
		"  cbagent open orders/10.0.0.7:8080 --for 10m --reason 'disk is being replaced'")
}

func newCloseCommand(e *env) *cobra.Command {
	return newOverrideCommand(e, control.ActionClose, "Let clients through to a backend again",
		`Close circuits that are open or half-open, and take back what an operator forced. From then on their outcomes count
again: a backend that still fails opens again, for open.duration as if for the first time. To keep clients coming all the same, use cbagent disable.`,
		"  cbagent close orders --reason 'the database is back'")
}

func newDisableCommand(e *env) *cobra.Command {
	return newOverrideCommand(e, control.ActionDisable, "Let all clients through and judge nothing, by hand",
		`Let every client of the circuits through, whatever their backends do, until the time is over or cbagent auto takes it
back. Limits and rate limits go on. Of a whole policy it also holds for backends that come later.
It outlives a restart of the agent if circuits do: with --bpffs.`,
		"  cbagent disable orders --for 1h --reason 'load test'")
}

func newAutoCommand(e *env) *cobra.Command {
	return newOverrideCommand(e, control.ActionAuto, "Take back what was done to a backend by hand",
		"Let the circuits do again what the policy says. One that was forced starts anew as closed.",
		"  cbagent auto orders --reason 'disk replaced'")
}

func newOverrideCommand(e *env, action, short, long, example string) *cobra.Command {
	var lasts time.Duration
	var reason, output string
	cmd := &cobra.Command{
		Use:     action + " POLICY[/BACKEND] --reason TEXT",
		Short:   short,
		Long:    long,
		Example: example,
		Args:    cobra.ExactArgs(1),
	}
	socket := socketFlag(cmd)
	if action == control.ActionOpen || action == control.ActionDisable {
		cmd.Flags().DurationVar(&lasts, "for", 0, "how long, such as 10m (default: until it is taken back)")
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`text` for those who read the history")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := oneOf("--output", output, "text", "json"); err != nil {
			return err
		}
		if lasts < 0 || cmd.Flags().Changed("for") && lasts == 0 {
			return fmt.Errorf("--for: must be 1s or more, got %s", lasts)
		}
		ctx, stop := interruptible(cmd)
		defer stop()
		client := control.NewClient(*socket)
		defer client.Close()
		done, err := client.Override(ctx, control.Override{
			Action: action, Target: args[0], ForSeconds: lasts.Seconds(), Reason: reason, By: os.Getenv("SUDO_USER"),
		})
		if err != nil {
			return err
		}
		if done.Warning != "" {
			fmt.Fprintln(e.stderr, "cbagent: warning:", done.Warning)
		}
		if output == "json" {
			return printJSON(e, done)
		}
		if len(done.Changes) == 0 {
			_, err := fmt.Fprintf(e.stdout, "%s has no backend yet\n", args[0])
			return err
		}
		return console.Changes(e.stdout, done.Changes, time.Now())
	}
	return cmd
}
