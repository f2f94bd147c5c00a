package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/view"
)

// impatient returns a client that waits a short time for the process that listens on the socket.
func impatient(t *testing.T, socket string) *Client {
	c := NewClient(socket)
	t.Cleanup(c.Close)
	c.timeout = 100 * time.Millisecond
	return c
}

// calls are all that a client can do, by what an error says of it.
func calls(c *Client) map[string]func(context.Context) error {
	record := func(view.Record) error { return nil }
	line := func([]byte) error { return nil }
	missed := func(uint64) {}
	return map[string]func(context.Context) error{
		"ask for the status":             func(ctx context.Context) error { _, err := c.Status(ctx, ""); return err },
		"ask whether the agent is ready": func(ctx context.Context) error { _, err := c.Ready(ctx); return err },
		"ask for the policies":           func(ctx context.Context) error { _, err := c.Policies(ctx, ""); return err },
		"order open": func(ctx context.Context) error {
			_, err := c.Override(ctx, Override{Action: ActionOpen, Target: "orders", Reason: "x"})
			return err
		},
		"ask for the events": func(ctx context.Context) error { return c.Events(ctx, "", 1, false, record, missed) },
		"ask for a trace":    func(ctx context.Context) error { return c.Trace(ctx, "", line, missed) },
		"ask for the events ": func(ctx context.Context) error {
			return c.Events(ctx, "", 1, true, record, missed)
		},
	}
}

// within bounds a test of what must not hang.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// An agent that does not answer at all, or stops in the middle of an answer, ends no call in a hang.
func TestSilentAgent(t *testing.T) {
	for name, says := range map[string]string{
		"nothing":         "",
		"half a header":   "HTTP/1.1 200 OK\r\nContent-",
		"half an answer":  "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"changes\":",
		"half an error":   "HTTP/1.1 500 Oops\r\nContent-Le",
		"a broken header": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10",
	} {
		socket := filepath.Join(t.TempDir(), "cb.sock")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				t.Cleanup(func() { _ = conn.Close() })
				go func() { // the answer comes after the request
					if _, err := conn.Read(make([]byte, 1)); err == nil {
						_, _ = conn.Write([]byte(says))
					}
				}()
			}
		}()
		c := impatient(t, socket)
		for what, call := range calls(c) {
			follows := what == "ask for a trace" || what == "ask for the events "
			if follows && strings.Contains(says, "\r\n\r\n") {
				continue // the first answer is there
			}
			want := fmt.Sprintf("%s: the agent at %s did not answer within 100ms: its process %d is overloaded or hangs; ", strings.TrimSpace(what), socket, os.Getpid())
			if err := call(within(t)); !errors.Is(err, ErrNoAnswer) || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%s, %s: %v; want %s", name, what, err, want)
			}
		}
	}
}

// A socket whose queue is full has another error than one on which no process listens.
func TestQueueOfConnectionsIsFull(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "cb.sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: socket}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	first, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = first.Close() })
	_, err = impatient(t, socket).Status(within(t), "")
	if want := "ask for the status: the agent at " + socket + " accepts no connection, its queue is full"; !errors.Is(err, ErrNoAnswer) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v; want %s", err, want)
	}
	// The process that listens there is not dead: another agent does not replace its socket.
	if l, err := Listen(socket, ""); !errors.Is(err, ErrInUse) {
		t.Errorf("a second agent on the socket: %v", err)
		_ = l.Close()
	}
}

// The deadline of a call that follows ends with the first answer.
func TestFollowerWaits(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "cb.sock")
	l, err := Listen(socket, "")
	if err != nil {
		t.Fatal(err)
	}
	c := impatient(t, socket)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		select {
		case <-time.After(3 * c.timeout):
		case <-r.Context().Done():
		}
		_, _ = w.Write([]byte("{\"t\":1}\n"))
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	lines := 0
	err = c.Trace(within(t), "", func([]byte) error { lines++; return nil }, func(uint64) {})
	if lines != 1 || err != nil {
		t.Errorf("%d lines, %v", lines, err)
	}
}

// A reader of the output that takes its time is not the agent's fault.
func TestDeadlineIsNotTheReaders(t *testing.T) {
	a := newStandIn(t)
	for range 1000 {
		a.history.Add(view.Record{Kind: view.KindLease, Why: strings.Repeat("x", 500)})
	}
	socket := filepath.Join(t.TempDir(), "cb.sock")
	l, err := Listen(socket, "")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: Handler(a, nil), ConnContext: ConnContext}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	c := impatient(t, socket)
	c.timeout = time.Second
	n := 0
	err = c.Events(within(t), "", 1000, false, func(view.Record) error {
		if n++; n == 1 {
			<-time.After(c.timeout * 3 / 2)
		}
		return nil
	}, func(uint64) {})
	if n != 1000 || err != nil {
		t.Errorf("%d records, %v", n, err)
	}
}
