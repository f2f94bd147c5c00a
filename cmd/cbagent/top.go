package main

import (
	"errors"
	"os"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/top"
)

func newTopCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top [POLICY | BACKEND | POLICY/BACKEND]",
		Short: "Show circuits live, with their rates",
		Long: `Show circuits in a table that is drawn anew each second: their state, requests let through and rejected a second with
curves of the last minute, failures, latency. Enter shows one circuit in detail, with what happened to it last.`,
		Example: "  cbagent top orders",
		Args:    cobra.MaximumNArgs(1),
	}
	socket := socketFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		out, ok := e.stdout.(*os.File)
		if !ok || !term.IsTerminal(int(out.Fd())) {
			return errors.New("top needs a terminal; for anything else there is cbagent status --watch")
		}
		ctx, stop := interruptible(cmd)
		defer stop()
		client := control.NewClient(*socket)
		defer client.Close()
		target := ""
		if len(args) > 0 {
			target = args[0]
		}
		// An error of the first request ends the command before it draws.
		if _, err := client.Status(ctx, target); err != nil {
			return err
		}
		_, err := tea.NewProgram(top.New(client, target), tea.WithContext(ctx), tea.WithInput(e.stdin), tea.WithOutput(out)).Run()
		if ctx.Err() != nil || errors.Is(err, tea.ErrInterrupted) {
			return nil
		}
		return err
	}
	return cmd
}
