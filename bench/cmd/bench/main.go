// Command bench measures cbagent and its peers on the same work, in network namespaces of its own, and says which of
// the project's goals are met. It needs root.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/bench/peer"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	if err := dispatch(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
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
	return run(ctx, args)
}
