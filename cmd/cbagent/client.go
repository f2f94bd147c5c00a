package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"
	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/control"
)

// Exit codes besides 0 and 1.
const (
	exitNoAgent      = 3 // no agent answers on the socket, or not in time
	exitNotPermitted = 4 // the user may not use the socket
	exitUnknown      = 5 // there is no such policy or backend
)

// exitCode returns the exit code of a command after an error.
func exitCode(err error) int {
	switch {
	case errors.Is(err, control.ErrNoAgent), errors.Is(err, control.ErrNoAnswer):
		return exitNoAgent
	case errors.Is(err, control.ErrNotPermitted):
		return exitNotPermitted
	case errors.Is(err, control.ErrUnknown):
		return exitUnknown
	}
	return 1
}

// exitCodes describes the exit codes in the help of commands.
const exitCodes = "\n\nExit codes: 0 done, 1 bad input or another failure, 3 no agent answers, 4 not permitted, 5 no such policy or backend."

// socketFlag adds the flag of commands that call the agent, and completion of policies and backends.
func socketFlag(cmd *cobra.Command) *string {
	path := cmd.Flags().String("control-socket", control.DefaultSocket, "`path` of the agent's control socket")
	cmd.Long += exitCodes
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return targets(cmd.Context(), *path), cobra.ShellCompDirectiveNoFileComp
	}
	return path
}

// targets returns all possible targets; none when no agent answers.
func targets(ctx context.Context, socket string) []string {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second) // a shell waits for this
	defer cancel()
	c := control.NewClient(socket)
	defer c.Close()
	s, err := c.Status(ctx, "")
	if err != nil {
		return nil
	}
	var all []string
	for i := range s.Policies {
		p := &s.Policies[i]
		all = append(all, p.Name)
		for j := range p.Circuits {
			all = append(all, p.Name+"/"+p.Circuits[j].Backend)
		}
	}
	return all
}

// interruptible returns a context that ends when the user interrupts the command.
func interruptible(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	return signal.NotifyContext(ctx, os.Interrupt, unix.SIGTERM)
}

// oneOf returns an error about a flag's value unless it is one of the accepted ones.
func oneOf(flag, got string, accepted ...string) error {
	for _, a := range accepted {
		if got == a {
			return nil
		}
	}
	return fmt.Errorf("%s: must be one of %s, got %q", flag, joinWords(accepted), got)
}

func joinWords(words []string) string {
	text := ""
	for i, w := range words {
		switch {
		case i == 0:
		case i == len(words)-1:
			text += " or "
		default:
			text += ", "
		}
		text += w
	}
	return text
}

// printJSON prints indented, with <, > and & as they are.
func printJSON(e *env, v any) error {
	enc := json.NewEncoder(e.stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// printYAML prints the same data as printJSON, as YAML.
func printYAML(e *env, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var node yaml.Node
	if err := yaml.Load(data, &node); err != nil {
		return fmt.Errorf("make YAML: %w", err)
	}
	plain(&node)
	text, err := yaml.Dump(node.Content[0])
	if err != nil {
		return fmt.Errorf("make YAML: %w", err)
	}
	_, err = e.stdout.Write(text)
	return err
}

// plain removes the brackets and quotes of JSON; the encoder adds those that are needed.
func plain(n *yaml.Node) {
	n.Style = 0
	for _, child := range n.Content {
		plain(child)
	}
}
