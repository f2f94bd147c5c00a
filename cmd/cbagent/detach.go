package main

import (
	"fmt"

	"github.com/cbagent/cbagent/internal/loader"
	"github.com/spf13/cobra"
)

func newDetachCommand(e *env) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "detach",
		Short: "Remove what agents have left in the kernel",
		Long: "Detach removes the programs, maps and filters that an agent left: because it ran with --bpffs, or was killed.\n" +
			"It restores the settings of lo that one with --bpffs has changed. It refuses while an agent uses them.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			removed, err := loader.DetachAll(path)
			for _, r := range removed {
				fmt.Fprintln(e.stdout, "removed", r)
			}
			if err == nil && len(removed) == 0 {
				fmt.Fprintln(e.stdout, "nothing to remove")
			}
			return err
		},
	}
	cmd.Flags().StringVar(&path, "bpffs", "/sys/fs/bpf/cbagent", "`directory` that the agent was given with --bpffs")
	return cmd
}
