package connlimit

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

const (
	patience = 20 * time.Second
	most     = 3
	full     = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 5\r\n\r\nfull\n"
)

// serve starts a server whose handler waits for a value from release for each request to /wait.
func serve(t *testing.T) (l *Listener, release chan struct{}) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, release = New(inner, most, full), make(chan struct{})
	server := &http.Server{ConnState: l.ConnState, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			<-release
		}
		_, _ = io.WriteString(w, "served")
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return l, release
}

// client is one connection.
type client struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func dial(t *testing.T, l *Listener) *client {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &client{c, t, bufio.NewReader(c)}
}

func (c *client) send(path string) {
	c.t.Helper()
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
		c.t.Fatal(err)
	}
}

// got returns status and body of the next response.
func (c *client) got() string {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return fmt.Sprint(resp.StatusCode, " ", strings.TrimSpace(string(body)))
}

func (l *Listener) await(t *testing.T, what string, ok func(Counts) bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(l.Counts()); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %+v", what, patience, l.Counts())
		}
	}
}

// Idle connections are closed for new ones, the longest idle first; each new client is served.
func TestIdleOnesMakeRoom(t *testing.T) {
	l, _ := serve(t)
	used := dial(t, l)
	used.send("/")
	if got := used.got(); got != "200 served" {
		t.Fatal(got)
	}
	for i := range 20 * most {
		dial(t, l) // sends nothing
		l.await(t, "it is accepted", func(n Counts) bool { return n.Open+int(n.Evicted) == i+2 })
	}
	last := dial(t, l)
	last.send("/")
	if got := last.got(); got != "200 served" {
		t.Error(got)
	}
	if _, err := used.r.ReadByte(); err != io.EOF {
		t.Errorf("the one that waited longest: %v, want EOF", err)
	}
	if n := l.Counts(); n.Open != most || n.Evicted != 19*most+2 || n.Rejected != 0 {
		t.Errorf("%+v", n)
	}
}

// If all are busy, the next one gets an answer that says so, and there is room again when one is done.
func TestBusyOnesStay(t *testing.T) {
	l, release := serve(t)
	var busy []*client
	for range most {
		c := dial(t, l)
		c.send("/wait")
		busy = append(busy, c)
	}
	l.await(t, "all are busy", func(n Counts) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.open) == most && l.longestWaiting() == nil
	})
	for range 5 {
		c := dial(t, l)
		c.send("/")
		if got := c.got(); got != "503 full" {
			t.Errorf("one too many got %s", got)
		}
		if _, err := c.r.ReadByte(); err != io.EOF {
			t.Errorf("then: %v, want EOF", err)
		}
		_ = c.Close()
	}
	if n := l.Counts(); n.Open != most || n.Rejected != 5 || n.Evicted != 0 {
		t.Errorf("%+v", n)
	}
	close(release)
	for _, c := range busy {
		if got := c.got(); got != "200 served" {
			t.Errorf("a busy one got %s", got)
		}
		_ = c.Close()
	}
	l.await(t, "all are gone", func(n Counts) bool { return n.Open == 0 })
	c := dial(t, l)
	c.send("/")
	if got := c.got(); got != "200 served" {
		t.Error(got)
	}
}
