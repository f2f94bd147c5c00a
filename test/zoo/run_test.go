//go:build zoo

package zoo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// call is one call as its client saw it; peers/call.go has the fields' meaning.
type call struct {
	At      int64  `json:"at"`
	Took    int64  `json:"us"`
	Do      string `json:"do"`
	Status  int    `json:"status"`
	Code    int    `json:"code"`
	Message string `json:"message"`
	Reason  string `json:"reason"`
	Size    int    `json:"size"`
	Count   int    `json:"count"`
	Body    string `json:"body"`
	Error   string `json:"error"`
}

func (c call) latency() time.Duration { return time.Duration(c.Took) * time.Microsecond }

func (c call) String() string { b, _ := json.Marshal(c); return string(b) } // of plain fields

// process is a running peer.
type process struct {
	t     *testing.T
	title string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
	errs  *bytes.Buffer // complete after wait
	kill  func()
}

// start starts a peer in a namespace. It is killed if the test is over before, or the context.
func start(ctx context.Context, t *testing.T, in *netlab.Namespace, title string, command []string, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	args = append(command[1:len(command):len(command)], args...)
	p := &process{t: t, title: title, cmd: exec.CommandContext(ctx, command[0], args...), errs: &bytes.Buffer{}, kill: cancel}
	p.cmd.Env = append(os.Environ(), "NODE_PATH="+built("node_modules"), "PYTHONDONTWRITEBYTECODE=1")
	p.cmd.Stderr = p.errs
	p.cmd.WaitDelay = time.Second
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.lines = bufio.NewScanner(out)
	p.lines.Buffer(nil, 1<<20)
	if err := in.Start(p.cmd); err != nil {
		t.Fatalf("%s: %v", title, err)
	}
	t.Cleanup(cancel)
	return p
}

// read reads the next line of the peer's output; ok is false at its end.
func (p *process) read(into any) (ok bool, err error) {
	if !p.lines.Scan() {
		return false, p.lines.Err()
	}
	if err := json.Unmarshal(p.lines.Bytes(), into); err != nil {
		return false, fmt.Errorf("%s prints %q: %w", p.title, p.lines.Text(), err)
	}
	return true, nil
}

// wait returns how the peer ended.
func (p *process) wait() error {
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %s", p.title, err, strings.TrimSpace(p.errs.String()))
	}
	return nil
}

// running is a client at work.
type running struct {
	*process
	mu    sync.Mutex
	calls []call
	more  chan struct{} // closed and replaced at each call, closed at the end
	done  bool
	err   error
}

// call starts a client, which is killed after patience.
func (s *stage) call(t *testing.T, c client, target string, args ...string) *running {
	t.Helper()
	r := &running{process: start(soon(t), t, s.Client, c.name, c.command, append(args, "address="+target)...), more: make(chan struct{})}
	go func() {
		for {
			var one call
			ok, err := r.read(&one)
			r.mu.Lock()
			if ok {
				r.calls = append(r.calls, one)
				close(r.more)
				r.more = make(chan struct{})
				r.mu.Unlock()
				continue
			}
			r.mu.Unlock()
			if werr := r.wait(); err == nil {
				err = werr
			}
			r.mu.Lock()
			r.err, r.done = err, true
			close(r.more)
			r.mu.Unlock()
			return
		}
	}()
	return r
}

// all returns the client's calls when it has ended.
func (r *running) all() []call {
	r.t.Helper()
	for {
		r.mu.Lock()
		done, err, more, calls := r.done, r.err, r.more, r.calls
		r.mu.Unlock()
		if done {
			if err != nil {
				r.t.Fatal(err)
			}
			return calls
		}
		<-more // the client is killed after patience
	}
}

// serving is a server at work.
type serving struct {
	*process
	server
	target string // IP:port
}

// serve starts a server and returns when it listens.
func serve(t *testing.T, in *netlab.Namespace, s server, target string) *serving {
	t.Helper()
	p := &serving{process: start(context.Background(), t, in, s.name+" server", s.command, "address="+target), server: s, target: target}
	var ready struct{ Ready bool }
	if ok, err := p.read(&ready); err != nil || !ok || !ready.Ready {
		t.Fatalf("%s is not ready: %v, %v", p.title, err, p.wait())
	}
	t.Cleanup(func() {
		_ = p.stdin.Close() // it ends with its input
		defer time.AfterFunc(patience, p.kill).Stop()
		if err := p.wait(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// counts returns how the server's calls have ended.
func (s *serving) counts() map[string]int {
	s.t.Helper()
	if _, err := fmt.Fprintln(s.stdin, "counts"); err != nil {
		s.t.Fatalf("%s: %v", s.title, err)
	}
	var said struct{ Counts map[string]int }
	if ok, err := s.read(&said); !ok {
		s.t.Fatalf("%s has no counts: %v", s.title, err)
	}
	return said.Counts
}
