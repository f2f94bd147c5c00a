package main

import (
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/doctor"
)

func newDoctorCommand(e *env) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what is right and wrong with this machine and its agent",
		Long: `Look at the kernel's features, at the capabilities of this process, and at the running agent: on which interfaces it
enforces and on which not and why, what policies it has in force, which of them see no requests, where their backends come
from, and what it is short of. Without an agent it tells whether one could run here.

Exit codes: 0 nothing failed, 1 something did.`,
		Args: cobra.NoArgs,
	}
	socket := cmd.Flags().String("control-socket", control.DefaultSocket, "`path` of the agent's control socket")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := oneOf("--output", output, "text", "json"); err != nil {
			return err
		}
		ctx, stop := interruptible(cmd)
		defer stop()
		client := control.NewClient(*socket)
		defer client.Close()
		s, err := client.Status(ctx, "")
		all := doctor.Machine(err == nil || errors.Is(err, control.ErrNotPermitted) || errors.Is(err, control.ErrNoAnswer))
		if err != nil {
			all = append(all, doctor.NoAgent(err))
			if errors.Is(err, control.ErrNoAgent) {
				all = append(all, doctor.Socket(*socket))
			}
		} else {
			all = append(all, doctor.Agent(&s)...)
		}
		if err := printChecks(e, all, output); err != nil {
			return err
		}
		if doctor.Failed(all) {
			return errReported
		}
		return nil
	}
	return cmd
}

func printChecks(e *env, all []doctor.Check, output string) error {
	if output == "json" {
		return printJSON(e, all)
	}
	t := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	for _, c := range all {
		fmt.Fprintf(t, "%s\t%s\t%s", c.Level, c.Name, c.Says)
		if c.Remedy != "" {
			fmt.Fprintf(t, " (%s)", c.Remedy)
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}
