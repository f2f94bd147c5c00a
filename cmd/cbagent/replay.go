package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/cbagent/cbagent/internal/policy"
	"github.com/cbagent/cbagent/internal/replay"
)

func newReplayCommand(e *env) *cobra.Command {
	var path string
	var seed uint64
	cmd := &cobra.Command{
		Use:   "replay --policy PATH TRACE",
		Short: "Say what policies would have done to recorded outcomes",
		Long: `Run the outcomes of TRACE, JSON lines, through the policies in PATH on a virtual clock: what would they have done?
No kernel is touched and no privilege is needed. TRACE "-" is standard input.

The output is JSON lines: transitions, ejection overflows, answers to attempts and inspections, and a summary of each
circuit at the end. The same policies, trace and seed give the same bytes.`,
		Example: "  cbagent replay --policy orders.yaml incident.jsonl\n" +
			"  cbagent events -o trace | cbagent replay --policy stricter.yaml -",
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			set, err := policy.Load(path)
			if err != nil {
				fmt.Fprintln(e.stderr, err)
				return errReported
			}
			trace, name := e.stdin, "standard input"
			if args[0] != "-" {
				file, err := os.Open(args[0])
				if err != nil {
					return fmt.Errorf("open the trace: %w", err)
				}
				defer file.Close()
				trace, name = file, args[0]
			}
			return replayTrace(e, set, trace, name, seed)
		},
	}
	cmd.Flags().StringVar(&path, "policy", "", "policy `PATH`: a file, or a directory of *.yaml")
	cmd.Flags().Uint64Var(&seed, "seed", 1, "`NUMBER` that decides jitter and ramps")
	if err := cmd.MarkFlagRequired("policy"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

func replayTrace(e *env, set *policy.Set, trace io.Reader, name string, seed uint64) error {
	policies := make([]replay.Policy, len(set.Policies))
	for i, p := range set.Policies {
		policies[i] = replay.Policy{
			Name:      p.Name,
			Settings:  p.Breaker,
			Addresses: p.Match.Addresses,
			Dynamic:   len(p.Match.CIDRs)+len(p.Match.Hosts)+len(p.Match.Services) > 0,
		}
	}
	err := replay.Run(e.stdout, policies, trace, seed)
	var wrong *replay.TraceError
	if !errors.As(err, &wrong) {
		return err
	}
	for _, problem := range wrong.Problems {
		fmt.Fprintf(e.stderr, "%s:%d: %v\n", name, problem.Line, problem.Err)
	}
	if wrong.More {
		fmt.Fprintf(e.stderr, "%s: more lines are wrong\n", name)
	}
	return errReported
}
