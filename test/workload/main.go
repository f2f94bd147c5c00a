// Command workload is what the end-to-end tests put around the agent: HTTP servers
// that fail when told to, and a client that counts what it is answered.
//
//	workload serve [flags]             a server; its control address makes it fail and tells its counts
//	workload call [flags] ADDRESS      requests, one after the other; prints the counts as JSON
//	workload control ADDRESS [CODE]    prints a server's counts, after telling it the status to answer with
//	workload sleep                     until it is told to end; also when called as pause
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	args := os.Args[1:]
	if filepath.Base(os.Args[0]) == "pause" {
		args = []string{"sleep"} // the image that holds a pod's namespaces
	}
	if err := run(ctx, args, os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "workload:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return errors.New("say serve, call, control or sleep")
	}
	switch args[0] {
	case "serve":
		return serve(ctx, args[1:])
	case "call":
		return call(ctx, args[1:], out)
	case "control":
		return control(ctx, args[1:], out)
	case "sleep":
		<-ctx.Done()
		return nil
	default:
		return fmt.Errorf("no command %q: serve, call, control or sleep", args[0])
	}
}
