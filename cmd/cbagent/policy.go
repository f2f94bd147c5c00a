package main

import (
	"github.com/spf13/cobra"

	"github.com/cbagent/cbagent/internal/control"
)

func newPolicyCommand(e *env) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "policy [POLICY | BACKEND]",
		Short: "Show the policies in force, with all defaults filled in",
		Long: `Show the policies that the running agent has in force, with every default filled in, in the format of a policy file:
reading what it prints gives the same policies.`,
		Example: "  cbagent policy orders",
		Args:    cobra.MaximumNArgs(1),
	}
	socket := socketFlag(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "yaml", "yaml or json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := oneOf("--output", output, "yaml", "json"); err != nil {
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
		raw, err := client.Policies(ctx, target)
		if err != nil {
			return err
		}
		if output == "json" {
			return printJSON(e, raw)
		}
		return printYAML(e, raw)
	}
	return cmd
}
