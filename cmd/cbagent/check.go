package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/cbagent/cbagent/internal/policy"
)

func newCheckCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "check PATH",
		Short: "Say whether policies are right, and what they do",
		Long: `Read the policies in PATH, a file or a directory of *.yaml, as the agent does, or in standard input where PATH is -.

Every error is printed as FILE:LINE:COLUMN: what: why, and the exit code is 1. If there is none, one line for each
policy says what it does. What is allowed but hardly meant is printed as a warning, what does less than
its name may promise as a note.`,
		Example: "  cbagent check /etc/cbagent/policies\n  envsubst <orders.yaml.in | cbagent check -",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			set, err := loadFrom(e, args[0])
			if err != nil {
				fmt.Fprintln(e.stderr, err)
				return errReported
			}
			for _, warning := range set.Warnings {
				fmt.Fprintln(e.stderr, "warning:", warning)
			}
			for _, note := range set.Notes {
				fmt.Fprintln(e.stderr, "note:", note)
			}
			for _, p := range set.Policies {
				fmt.Fprintln(e.stdout, p.Summary())
			}
			return nil
		},
	}
}

// loadFrom reads the policies in a path, or in standard input.
func loadFrom(e *env, path string) (*policy.Set, error) {
	if path != "-" {
		return policy.Load(path)
	}
	data, err := io.ReadAll(io.LimitReader(e.stdin, policy.MaxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("read policies in standard input: %w", err)
	}
	return policy.Parse("standard input", data)
}
