// Command cbagent is a node-level circuit breaker: small eBPF programs watch the TCP flows to the backends that policies
// name, and reject clients while a backend fails.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// env is the environment of a command: it uses nothing else of the process.
type env struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	global bool // the command may change the state of the whole process
}

func main() {
	os.Exit(run(os.Args[1:], &env{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, global: true}))
}

// run executes the command line and returns the exit code: 0, or that of an error, which it prints.
func run(args []string, e *env) int {
	root := newRootCommand(e)
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return 0
	}
	if !errors.Is(err, errReported) {
		fmt.Fprintln(e.stderr, "cbagent:", err)
	}
	return exitCode(err)
}

// errReported is the error of a command that has printed its errors itself.
var errReported = errors.New("errors were printed")

// reported marks an error as printed. nil stays nil.
func reported(err error) error {
	if err == nil {
		return nil
	}
	return errors.Join(errReported, err)
}

func newRootCommand(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:           "cbagent",
		Short:         "Node-level circuit breaker agent",
		Version:       version,
		Long:          "cbagent watches the HTTP and TCP flows of a node and rejects clients from failing backends in the kernel.",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetIn(e.stdin)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	root.AddCommand(
		newAutoCommand(e), // one line for each command, in alphabetical order
		newCheckCommand(e),
		newCloseCommand(e),
		newDemoCommand(e),
		newDetachCommand(e),
		newDisableCommand(e),
		newDoctorCommand(e),
		newEventsCommand(e),
		newManCommand(e),
		newOpenCommand(e),
		newPolicyCommand(e),
		newReadyCommand(e),
		newReplayCommand(e),
		newRunCommand(e),
		newStatusCommand(e),
		newTopCommand(e),
	)
	return root
}
