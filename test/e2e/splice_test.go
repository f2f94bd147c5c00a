package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// Bytes of a response's body before the backend pauses, and in all.
const (
	bodyBefore = 2000
	bodyLen    = 200_000
)

// streamer is a backend that sends the body of a response in two parts.
type streamer struct {
	gate    chan struct{} // closed when the second part may follow
	chunked bool
	late    atomic.Int64 // requests for /next
}

// response returns what the backend answers to /stream, in its two parts.
func (s *streamer) response() (first, second string) {
	body := strings.Repeat("0123456789abcdef", bodyLen/16)
	if s.chunked {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", bodyBefore, body[:bodyBefore]),
			fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", bodyLen-bodyBefore, body[bodyBefore:])
	}
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", bodyLen, body[:bodyBefore]), body[bodyBefore:]
}

// serve answers the requests of a connection, one after the other.
func (s *streamer) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	for r := bufio.NewReader(c); ; {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		switch req.URL.Path {
		case "/stream":
			first, second := s.response()
			_, _ = io.WriteString(c, first)
			<-s.gate
			_, _ = io.WriteString(c, second)
		case "/fail":
			_, _ = io.WriteString(c, "HTTP/1.1 500 Failed\r\nContent-Length: 0\r\n\r\n")
		default:
			s.late.Add(1)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	}
}

// TestAnswerIsNeverInsideAResponse: clients send their next request while the response to the one before still comes, and
// the circuit has opened. Each gets the whole response and then the kernel's whole 503, or a reset.
func TestAnswerIsNeverInsideAResponse(t *testing.T) {
	t.Parallel()
	for _, chunked := range []bool{false, true} {
		for _, early := range []bool{true, false} {
			for _, delay := range []time.Duration{0, 10 * time.Millisecond} {
				t.Run(fmt.Sprintf("chunked=%v before the rest=%v delay=%s", chunked, early, delay), func(t *testing.T) {
					t.Parallel()
					testSplice(t, &streamer{gate: make(chan struct{}), chunked: chunked}, early, delay)
				})
			}
		}
	}
}

// testSplice opens the circuit while many responses are half sent. Clients send their next requests before the rest of the
// responses is sent (early), or at different moments while it comes.
func testSplice(t *testing.T, s *streamer, early bool, delay time.Duration) {
	const clients = 40
	p := rawPlace(t, s.serve)
	release := sync.OnceFunc(func() { close(s.gate) })
	t.Cleanup(release)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, threeFailures...), p.interfaces)
	if delay > 0 {
		defer impair(t, netlab.Impairment{Delay: delay}, p.clients)()
	}
	first, second := s.response()
	open := make([]net.Conn, clients)
	for i := range open {
		open[i] = dial(t, p.place)
		sendAll(t, open[i], "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := io.ReadFull(open[i], make([]byte, len(first))); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	failing := dial(t, p.place)
	for range 3 {
		sendAll(t, failing, "GET /fail HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := io.ReadFull(failing, make([]byte, len("HTTP/1.1 500 Failed\r\nContent-Length: 0\r\n\r\n"))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := agent.Await(soon(t), p.backend.String(), "open", began); err != nil {
		t.Fatal(err)
	}
	const next = "GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
	if early {
		for _, c := range open {
			sendAll(t, c, next)
		}
	}
	release()
	var ends tally
	var reading sync.WaitGroup
	for i, c := range open {
		reading.Go(func() {
			var got bytes.Buffer
			if !early {
				_, _ = io.CopyN(&got, c, int64(i*len(second)/(clients-1)))
				_, _ = io.WriteString(c, next) // what happens shows when it is read
			}
			_, err := io.Copy(&got, c)
			ends.add(ending(second, got.String(), err))
		})
	}
	reading.Wait()
	t.Logf("clients got %v", ends.counts)
	for what, n := range ends.counts {
		if what != "response and 503" && what != "reset" {
			t.Errorf("%d of %d clients got %s", n, clients, what)
		}
	}
	// Who has read all of it before asks on an idle connection.
	if !early && ends.counts["response and 503"] == 0 {
		t.Error("no client got the kernel's 503 behind its response")
	}
	if n := s.late.Load(); n > 0 {
		t.Errorf("%d requests reached the backend while the circuit was open", n)
	}
}

// ending names what a client read after the first part of a response.
func ending(second, got string, err error) string {
	answer, whole := strings.CutPrefix(got, second)
	isAnswer := strings.HasPrefix(answer, "HTTP/1.1 503 ") && strings.HasSuffix(answer, "\r\n\r\n"+`{"error":"circuit open"}`)
	switch {
	case whole && answer != "" && !isAnswer:
		return fmt.Sprintf("the response and %q", answer)
	case !whole && !strings.HasPrefix(second, got):
		return "something else inside the response"
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "no end"
	case err != nil:
		return err.Error()
	case isAnswer && whole:
		return "response and 503"
	}
	return "an end without a reset or an answer"
}

// tally counts what is added by many goroutines.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
}

func (c *tally) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[string]int{}
	}
	c.counts[what]++
}

// dial opens a connection that is closed with the test, and ends every wait.
func dial(t *testing.T, p place) net.Conn {
	t.Helper()
	c, err := p.client.DialContext(soon(t), "tcp", p.dial.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience / 2)); err != nil {
		t.Fatal(err)
	}
	return c
}

// sendAll writes all of a text.
func sendAll(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}
