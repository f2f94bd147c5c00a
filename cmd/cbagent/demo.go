package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/lab/demo"
)

func newDemoCommand(e *env) *cobra.Command {
	var output string
	command := &cobra.Command{
		Use:   "demo",
		Short: "Show a circuit open and close, in network namespaces of its own",
		Long: "demo makes network namespaces with clients, a node and three backends, runs the agent on the node, and lets\n" +
			"one backend fail and heal. It needs root, takes about 15 seconds, touches no interface of this machine and\n" +
			"leaves nothing behind. It exits with 1 if the breaker did not do its job.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("--output must be text or json, got %q", output)
			}
			return runDemo(e, output == "json")
		},
	}
	command.Flags().StringVarP(&output, "output", "o", "text", "form of the final report: text or json")
	return command
}

// runDemo shows the run on stdout and then reports; as JSON, stdout is for the report alone.
func runDemo(e *env, asJSON bool) error {
	// SIGPIPE, too: the demo must clean up when its reader is gone.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	out := e.stdout
	if asJSON {
		out = e.stderr
	}
	view := newDemoView(out)
	report, err := demo.Run(ctx, demo.Options{
		Agent:  []string{"/proc/self/exe", "run"},
		Script: demo.DefaultScript,
		View:   view,
	})
	if closed := view.Close(); err == nil && closed != nil {
		err = fmt.Errorf("show the demo: %w", closed)
	}
	if err != nil && !errors.Is(err, demo.ErrFaults) {
		return err
	}
	if asJSON {
		if written := json.NewEncoder(e.stdout).Encode(report); written != nil {
			return errors.Join(err, fmt.Errorf("write the report: %w", written))
		}
		return err
	}
	return errors.Join(report.WriteText(e.stdout), err)
}

// newDemoView returns a picture for a terminal, lines for anything else.
func newDemoView(out io.Writer) demo.View {
	if f, ok := out.(*os.File); ok {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			return demo.NewLive(f)
		}
	}
	return demo.NewLines(out)
}
