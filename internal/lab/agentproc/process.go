package agentproc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// Process is a running agent. Its methods may be called concurrently.
type Process struct {
	cmd    *exec.Cmd
	places places
	grace  time.Duration // how long it may take to end after SIGTERM
	ready  chan struct{} // closed when the agent has attached
	ended  chan struct{} // closed when the process is gone
	err    error         // how it ended; valid after ended

	mu          sync.Mutex
	isReady     bool
	transitions []Transition
	changed     chan struct{} // closed and replaced at each transition
	said        []string      // its last warnings, errors and lines that are not JSON
	warnings    []string      // lines of these two levels, unchanged, except changes of circuits
}

// Start starts the command, with --log-format json added, in a namespace. The process is in a process group of its own: a
// ctrl-C on the terminal reaches only the caller. It ends with the caller's process, or by Stop.
func Start(in *netlab.Namespace, command ...string) (*Process, error) {
	flags := append(slices.Clone(command[1:]), "--log-format", "json")
	own, err := ownPlaces(command)
	if err != nil {
		return nil, err
	}
	p := &Process{
		cmd:     exec.Command(command[0], append(flags, own.flags...)...),
		places:  own,
		grace:   5 * time.Second,
		ready:   make(chan struct{}),
		ended:   make(chan struct{}),
		changed: make(chan struct{}),
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	log, err := p.cmd.StderrPipe()
	if err != nil {
		own.remove()
		return nil, fmt.Errorf("start the agent: %w", err)
	}
	if err := in.Start(p.cmd); err != nil {
		own.remove()
		return nil, fmt.Errorf("start the agent: %w", err)
	}
	go func() {
		p.follow(log)
		p.err = p.cmd.Wait()
		own.remove()
		close(p.ended)
	}()
	return p, nil
}

// follow reads the log to its end.
func (p *Process) follow(log io.Reader) {
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.read(lines.Bytes())
	}
	_, _ = io.Copy(io.Discard, log) // an overlong line must not block the agent
}

// read handles one line of the log.
func (p *Process) read(line []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l, ok := parseLine(line)
	switch {
	case !ok:
		p.said = withLast(p.said, string(line), maxSaid)
	case l.Msg == msgReady && !p.isReady:
		p.isReady = true
		close(p.ready)
	case l.Msg == msgTransition:
		p.transitions = append(p.transitions, l.transition())
		close(p.changed)
		p.changed = make(chan struct{})
	case l.opens():
	case l.Level == "ERROR" || l.Level == "WARN":
		p.said = withLast(p.said, strings.TrimSuffix(l.Msg+": "+l.Error, ": "), maxSaid)
		p.warnings = withLast(p.warnings, string(line), maxWarnings)
	}
}

// Limits of the lines of the log that are kept.
const (
	maxSaid     = 20
	maxWarnings = 1000
)

// withLast appends a line and keeps the last n.
func withLast(lines []string, line string, n int) []string {
	lines = append(lines, line)
	return lines[max(0, len(lines)-n):]
}

// Warnings returns the last 1000 lines of the log of level WARN or ERROR, oldest first: JSON objects. The opening of a
// circuit is no warning: it is what the policy is for.
func (p *Process) Warnings() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.warnings)
}

// Pid returns the number of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Ended is closed when the process is gone.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// HasEnded reports whether the process is gone.
func (p *Process) HasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// Ready reports whether the agent has been ready.
func (p *Process) Ready() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.isReady
}

// AwaitReady returns when the agent has attached, or an error with the agent's log.
func (p *Process) AwaitReady(ctx context.Context) error {
	select {
	case <-p.ready:
		return nil
	case <-p.ended:
		return p.Complaint("the agent ended before it was ready")
	case <-ctx.Done():
		return p.Complaint("the agent was not ready: " + context.Cause(ctx).Error())
	}
}

// Transitions returns all transitions so far.
func (p *Process) Transitions() []Transition {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.transitions)
}

// Find returns the first transition of the backend to a state that did not happen before a moment. If there is none,
// next is closed at the next transition of any circuit.
func (p *Process) Find(backend, to string, since time.Time) (t Transition, found bool, next <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.transitions {
		if t.Backend == backend && t.To == to && !t.At.Before(since) {
			return t, true, p.changed
		}
	}
	return Transition{}, false, p.changed
}

// Await waits for a transition as Find describes it.
func (p *Process) Await(ctx context.Context, backend, to string, since time.Time) (Transition, error) {
	for {
		t, found, next := p.Find(backend, to, since)
		if found {
			return t, nil
		}
		select {
		case <-next:
		case <-p.ended:
			return t, p.Complaint("the agent ended")
		case <-ctx.Done():
			return t, p.Complaint(fmt.Sprintf("the circuit of %s was not %s: %v", backend, to, context.Cause(ctx)))
		}
	}
}

// Complaint returns an error with a description and the last lines of the agent's log: warnings, errors, and lines that are
// not JSON.
func (p *Process) Complaint(what string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.said) == 0 {
		return errors.New(what)
	}
	return fmt.Errorf("%s; it said:\n  %s", what, strings.Join(p.said, "\n  "))
}

// Stop ends the agent with SIGTERM, kills it if it does not end within 5 s, and returns an error if it did not end cleanly.
// A second call returns the same.
func (p *Process) Stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails only if it has ended
	timer := time.NewTimer(p.grace)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		_ = p.cmd.Process.Kill()
		<-p.ended
		return p.Complaint(fmt.Sprintf("the agent did not end within %s of SIGTERM", p.grace))
	}
	if p.err != nil {
		return p.Complaint("the agent ended with " + p.err.Error())
	}
	return nil
}

// Kill ends the agent with SIGKILL and returns when it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // fails only if it has ended
	<-p.ended
}
