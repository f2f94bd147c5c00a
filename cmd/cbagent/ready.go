package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/cbagent/cbagent/internal/control"
)

// readyEvery is the interval between two requests to the agent.
const readyEvery = 50 * time.Millisecond

func newReadyCommand(e *env) *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "ready",
		Short: "Say whether the agent is ready, or what it waits for",
		Long: `Say whether the running agent has its policies in force and its interfaces attached, or what it waits for and what
mends that. In a pod it is the startup probe, so that kubectl describe pod shows the answer.`,
		Example: "  cbagent ready --wait 30s",
		Args:    cobra.NoArgs,
	}
	socket := socketFlag(cmd)
	cmd.Flags().DurationVar(&wait, "wait", 0, "how long to wait for it to become ready")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := interruptible(cmd)
		defer stop()
		client := control.NewClient(*socket)
		defer client.Close()
		end := time.NewTimer(wait)
		defer end.Stop()
		for {
			err := isReady(ctx, client)
			if err == nil {
				fmt.Fprintln(e.stdout, "ready")
				return nil
			}
			if errors.Is(err, control.ErrNotPermitted) {
				return err
			}
			select {
			case <-ctx.Done():
				return err
			case <-end.C:
				return err
			case <-time.After(readyEvery):
			}
		}
	}
	return cmd
}

func isReady(ctx context.Context, client *control.Client) error {
	r, err := client.Ready(ctx)
	if err == nil && !r.Ready {
		err = fmt.Errorf("not ready: %s", r.WaitsFor)
	}
	return err
}
