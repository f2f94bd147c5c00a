// Command bench measures cbagent and its peers on the same work, in network namespaces of its own, and says which of
// the project's goals are met. It needs root.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/bench/peer"
	"github.com/cbagent/cbagent/bench/report"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	if err := dispatch(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// again reports the results of a folder, and refreshes a page if one is named.
func again(args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return errors.New("usage: bench report RESULTS [PAGE]")
	}
	results, err := report.Load(args[0])
	if err != nil {
		return err
	}
	if len(results) == 0 {
		return fmt.Errorf("%s holds no results", args[0])
	}
	printGoals(results)
	if err := report.Write(results, args[0]); err != nil {
		return err
	}
	if len(args) == 2 {
		return report.Refresh(results, args[1])
	}
	return nil
}

// printGoals prints which goals are met, and which were not measured.
func printGoals(s report.Set) {
	all := report.Judge(s)
	report.Goals(os.Stdout, all)
	report.Unmeasured(os.Stdout, all)
}

// dispatch tells the processes that the bench starts from the bench itself.
func dispatch(ctx context.Context, args []string) error {
	if len(args) == 3 && args[0] == "child" {
		result, err := peer.Child(ctx, args[1], args[2])
		if err != nil || result == nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(result)
	}
	if len(args) > 0 && args[0] == "report" {
		return again(args[1:])
	}
	return run(ctx, args)
}
