package peer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cbagent/cbagent/bench/usage"
	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// process is a child in a namespace.
type process struct {
	name  string
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // valid after ended
	out   tail
}

// start starts a command in a namespace of the site; it ends with the site.
func (s *Site) start(in *netlab.Namespace, name string, command ...string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(command[0], command[1:]...), ended: make(chan struct{})}
	p.cmd.Dir = s.folder
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := in.Start(p.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	s.running = append(s.running, p)
	return p, nil
}

// stop ends the process and its children.
func (p *process) stop() {
	all := usage.Tree(p.cmd.Process.Pid)
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails only if it has ended
	select {
	case <-p.ended:
	case <-time.After(3 * time.Second):
		for _, pid := range all {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		<-p.ended
	}
}

func (p *process) said() string { return p.out.String() }

// tail keeps the last bytes that were written to it.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

func (t *tail) Write(b []byte) (int, error) {
	const most = 4096
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, b...)
	t.kept = t.kept[max(0, len(t.kept)-most):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.kept))
}

// child runs the bench's own binary in a namespace until it ends: argument as JSON in, result as JSON out.
func (s *Site) child(in *netlab.Namespace, role string, argument, result any) error {
	text, err := json.Marshal(argument)
	if err != nil {
		return fmt.Errorf("%s: %w", role, err)
	}
	out, err := s.Output(in, exec.Command(s.bench.Self, "child", role, string(text)))
	if err != nil {
		return fmt.Errorf("%s: %w", role, err)
	}
	if err := json.Unmarshal(out, result); err != nil {
		return fmt.Errorf("read what %s measured: %w", role, err)
	}
	return nil
}

// Output runs a command in a namespace until it ends, and returns what it printed.
func (s *Site) Output(in *netlab.Namespace, cmd *exec.Cmd) ([]byte, error) {
	var out bytes.Buffer
	var said tail
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if s.clients != nil && in == s.Client {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(s.clients.Fd())
	}
	if err := in.Start(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", cmd.Path, err, said.String())
	}
	return out.Bytes(), nil
}
