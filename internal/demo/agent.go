package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cbagent/cbagent/internal/netlab"
)

// stopWithin is how long the agent may take to end when it is asked to.
const stopWithin = 5 * time.Second

// agent is the agent's process.
type agent struct {
	cmd   *exec.Cmd
	ready chan struct{} // closed when the agent has attached
	ended chan struct{} // closed when the process is gone
	err   error         // how it ended; valid after ended

	mu    sync.Mutex
	said  []string // its last warnings, errors and lines that are not JSON
	isSet bool     // ready is closed
}

// startAgent starts the command in the node's namespace and calls on for each transition that it logs.
func startAgent(node *netlab.Namespace, argv []string, on func(Transition)) (*agent, error) {
	a := &agent{
		cmd:   exec.Command(argv[0], argv[1:]...),
		ready: make(chan struct{}),
		ended: make(chan struct{}),
	}
	// A process group of its own: a ctrl-C reaches the demo alone, which ends the agent when the callers are done.
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	log, err := a.cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("start the agent: %w", err)
	}
	if err := node.Start(a.cmd); err != nil {
		return nil, fmt.Errorf("start the agent: %w", err)
	}
	go func() {
		a.read(log, on)
		a.err = a.cmd.Wait()
		close(a.ended)
	}()
	return a, nil
}

// read follows the agent's log to its end.
func (a *agent) read(log io.Reader, on func(Transition)) {
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		l, ok := parseLine(lines.Bytes())
		switch {
		case !ok:
			a.remember(lines.Text())
		case l.Msg == msgReady:
			a.setReady()
		case l.Msg == msgTransition:
			t, err := l.transition()
			if err != nil {
				a.remember(lines.Text())
				continue
			}
			on(t)
		case l.Level == "ERROR" || l.Level == "WARN":
			a.remember(strings.TrimSuffix(l.Msg+": "+l.Err, ": "))
		}
	}
	_, _ = io.Copy(io.Discard, log) // an overlong line must not block the agent
}

func (a *agent) setReady() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.isSet {
		a.isSet = true
		close(a.ready)
	}
}

func (a *agent) remember(line string) {
	const kept = 20
	a.mu.Lock()
	defer a.mu.Unlock()
	a.said = append(a.said, line)
	if len(a.said) > kept {
		a.said = a.said[1:]
	}
}

// awaitReady returns when the agent has attached, or an error with what it said if it ended instead.
func (a *agent) awaitReady(ctx context.Context) error {
	select {
	case <-a.ready:
		return nil
	case <-a.ended:
		return a.complaint("the agent ended before it was ready")
	case <-ctx.Done():
		return a.complaint("the agent was not ready: " + context.Cause(ctx).Error())
	}
}

// complaint makes an error of what happened and what the agent said.
func (a *agent) complaint(what string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.said) == 0 {
		return errors.New(what)
	}
	return fmt.Errorf("%s; it said:\n  %s", what, strings.Join(a.said, "\n  "))
}

// stop ends the agent and returns an error if it did not end well. A second call returns the same.
func (a *agent) stop() error {
	_ = a.cmd.Process.Signal(syscall.SIGTERM) // fails only if it has ended
	timer := time.NewTimer(stopWithin)
	defer timer.Stop()
	select {
	case <-a.ended:
	case <-timer.C:
		_ = a.cmd.Process.Kill()
		<-a.ended
		return a.complaint(fmt.Sprintf("the agent did not end within %s of SIGTERM", stopWithin))
	}
	if a.err != nil {
		return a.complaint("the agent ended with " + a.err.Error())
	}
	return nil
}
