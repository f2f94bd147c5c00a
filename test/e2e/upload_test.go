package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/lab/loadgen"
)

// uploads is a backend that answers a POST before it has read the body, and reads on.
type uploads struct {
	status int
	whole  atomic.Int64 // bodies that were read to their end
	bytes  atomic.Int64 // of them
	others atomic.Int64 // other requests
}

const noContent = "HTTP/1.1 204 No Content\r\n\r\n"

// serve answers the requests of a connection, one after the other.
func (u *uploads) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	for r := bufio.NewReader(c); ; {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if req.Method != http.MethodPost {
			u.others.Add(1)
			_, _ = io.WriteString(c, noContent)
			continue
		}
		_, _ = io.WriteString(c, u.answer())
		n, err := io.Copy(io.Discard, req.Body)
		if err != nil {
			return
		}
		u.bytes.Add(n)
		u.whole.Add(1)
	}
}

func (u *uploads) answer() string {
	return fmt.Sprintf("HTTP/1.1 %d Early\r\nContent-Length: 0\r\n\r\n", u.status)
}

// TestBodyIsNoRequest uploads an access log, whose lines look like requests, to a backend that answers early. Each line is
// a segment. Nothing but the POST, and what may follow its body, is a request.
func TestBodyIsNoRequest(t *testing.T) {
	t.Parallel()
	for _, chunked := range []bool{false, true} {
		for status, next := range map[int]string{413: "", 429: "GET /next HTTP/1.1\r\nHost: x\r\n\r\n"} {
			t.Run(fmt.Sprintf("%d chunked=%v another request=%v", status, chunked, next != ""), func(t *testing.T) {
				t.Parallel()
				testUploads(t, &uploads{status: status}, chunked, next)
			})
		}
	}
}

func testUploads(t *testing.T, u *uploads, chunked bool, next string) {
	const clients, lines = 10, 40
	requests := clients
	if next != "" {
		requests *= 2
	}
	p := rawPlace(t, u.serve)
	// As many as are sent, and none more.
	startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, "outcome: {failure: [5xx, reset, timeout]}",
		fmt.Sprintf("rateLimit: {limit: %d, period: 1h, burst: %d}", requests, requests)), p.interfaces)
	var log []string
	for n := range lines {
		log = append(log, fmt.Sprintf("%s /%d HTTP/1.1\" 200 %d\n", []string{"GET", "POST", "PUT"}[n%3], n, 100*n))
	}
	var ends tally
	var uploading sync.WaitGroup
	for range clients {
		c := dial(t, p.place)
		uploading.Go(func() { ends.add(upload(c, u.answer(), log, chunked, next)) })
	}
	uploading.Wait()
	for what, n := range ends.counts {
		if what != "its answers" {
			t.Errorf("%d of %d clients got %s", n, clients, what)
		}
	}
	want := int64(clients * len(strings.Join(log, "")))
	others := int64(requests - clients)
	if u.whole.Load() != clients || u.bytes.Load() != want || u.others.Load() != others {
		t.Errorf("the backend read %d whole uploads of %d bytes and %d requests behind them, want %d of %d and %d",
			u.whole.Load(), u.bytes.Load(), u.others.Load(), clients, want, others)
	}
	wantMetric(t, p.place, 0, "cbagent_rejected_total")
	wantMetric(t, p.place, float64(requests), "cbagent_admitted_total")
	wantMetric(t, p.place, clients, "cbagent_responses_total", fmt.Sprintf("status=%q", fmt.Sprint(u.status)))
	wantMetric(t, p.place, float64(others), "cbagent_responses_total", `status="204"`)
	wantMetric(t, p.place, 0, "cbagent_requests_in_flight")
	if r := call(t, client(t, p.client, p.dial)); r.Status != 429 || r.Class != loadgen.Answered || r.Header.Get("Server") != "cbagent" {
		t.Errorf("one more request: got %s, %v; want the kernel's 429", r.Outcome(), r.Err)
	}
}

// upload sends a POST with the lines as its body, each in a write of its own once the early answer is there, and what may
// follow: in the same write as the end of the body, or in its own where only the last bytes of a body show that it has
// ended. It says what came back until the backend closed the connection.
func upload(c net.Conn, early string, lines []string, chunked bool, next string) string {
	length := fmt.Sprintf("Content-Length: %d", len(strings.Join(lines, "")))
	if chunked {
		length = "Transfer-Encoding: chunked"
	}
	want := ""
	if next != "" {
		want = noContent
	}
	// Once the connection has failed, what comes back says so.
	send := func(s string) { _ = sendSegment(c.(*net.TCPConn), s) }
	send("POST /log HTTP/1.1\r\nHost: x\r\n" + length + "\r\n\r\n")
	got := make([]byte, len(early))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != early {
		return fmt.Sprintf("%q, %v for the POST", got[:n], err)
	}
	last := len(lines) - 1
	for i, line := range lines {
		after := ""
		if chunked {
			send(fmt.Sprintf("%x\r\n", len(line)))
			after = "\r\n"
		}
		switch {
		case i < last:
		case chunked:
			after += "0\r\n\r\n"
		default:
			after, next = next, ""
		}
		send(line + after)
	}
	send(next)
	_ = c.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != want {
		return fmt.Sprintf("%.20q, %v behind the early answer", got, err)
	}
	return "its answers"
}

// sendSegment writes a text and returns when it has left the socket: what is written later is in segments of its own.
func sendSegment(c *net.TCPConn, text string) error {
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Microsecond) {
		var unsent int
		var failed error
		if err := raw.Control(func(fd uintptr) { unsent, failed = unix.IoctlGetInt(int(fd), unix.SIOCOUTQNSD) }); err != nil {
			return err
		}
		if failed != nil || unsent == 0 {
			return failed
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d bytes are still unsent after %s", unsent, patience)
		}
	}
}
