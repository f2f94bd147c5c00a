// Package process runs the programs that tests put around the agent, and makes sure
// that none outlives the test.
package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// Process is a running program whose output goes to a file.
type Process struct {
	Name string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// Start runs cmd in the network namespace, nil being the client's, with its output in
// dir/NAME.log. The kernel kills it when this program dies, however that comes about.
func Start(dir, name string, cmd *exec.Cmd, namespace *netlab.Namespace) (*Process, error) {
	p := &Process{Name: name, log: filepath.Join(dir, name+".log"), cmd: cmd, done: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", name, err)
	}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

	started := make(chan error)
	go func() {
		// The death signal comes with the end of the thread that started the
		// process, so this thread stays until the process has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer out.Close()
		err := Launch(cmd, namespace)
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in cmd.ProcessState
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// Exited tells whether the process has ended.
func (p *Process) Exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// PID is the process's id, and that of its group.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// State says how the process ended; it may be asked once Exited.
func (p *Process) State() string { return p.cmd.ProcessState.String() }

// Stop ends the process and all of its group: politely, then by force.
func (p *Process) Stop() error {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := syscall.Kill(-p.cmd.Process.Pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop %s: %w", p.Name, err)
		}
		select {
		case <-p.done:
			return nil
		case <-time.After(2 * time.Second):
		}
	}
	return fmt.Errorf("stop %s: still there 2s after SIGKILL", p.Name)
}

// Tail is the end of the process's log.
func (p *Process) Tail() string {
	const most = 4096
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-most):])
}

// Launch starts the command in a network namespace, nil being the client's.
func Launch(cmd *exec.Cmd, namespace *netlab.Namespace) error {
	if namespace == nil {
		return cmd.Start()
	}
	return namespace.Start(cmd)
}
