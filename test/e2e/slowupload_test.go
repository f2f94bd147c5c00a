package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// uploadSlowly sends a POST whose body takes a time to send, and returns when its last byte has been written.
func uploadSlowly(c net.Conn, size int, rate float64) error {
	const every = 50 * time.Millisecond
	if _, err := fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", size); err != nil {
		return err
	}
	part := bytes.Repeat([]byte("x"), int(rate*every.Seconds()))
	pace := time.NewTicker(every)
	defer pace.Stop()
	for ; size > 0; size -= len(part) {
		<-pace.C
		if _, err := c.Write(part[:min(size, len(part))]); err != nil {
			return err
		}
	}
	return nil
}

// TestSlowUploadsAreNotTheBackends: the time that clients take to send a request is not held against the backend, which
// answers at once when it has it all.
func TestSlowUploadsAreNotTheBackends(t *testing.T) {
	t.Parallel()
	p := relayPlace(t)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, "outcome: {timeout: 2s, slow: 1s}",
		"trip: [{consecutiveFailures: 1}, {all: [{minCalls: 1}, {slowRate: 0.1}]}, {pendingAge: 1500ms}]"), p.interfaces)
	var uploads sync.WaitGroup
	const clients = 5
	for range clients {
		c := dial(t, p.place)
		uploads.Go(func() {
			if err := uploadSlowly(c, 500_000, 100_000); err != nil {
				t.Error(err)
				return
			}
			if got, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 200 ") {
				t.Errorf("got %q, %v; want the backend's 200", got, err)
			}
		})
	}
	uploads.Wait()
	if got := agent.Transitions(); len(got) > 0 {
		t.Fatalf("transitions %+v of what clients took their time for", got)
	}
	wantMetric(t, p.place, clients, "cbagent_responses_total", `status="200"`)
	wantMetric(t, p.place, 0, "cbagent_outcomes_total", `outcome="timeout"`)
	wantMetric(t, p.place, clients, "cbagent_response_duration_seconds_count")
	if sum, _ := metric(t, p.node, "cbagent_response_duration_seconds_sum"); sum > clients*0.5 {
		t.Errorf("%d responses took %v s in all, want the backend's time alone", clients, sum)
	}
}

// TestSlowUploadThenHang: a backend that does not answer times out so much after the request's last byte.
func TestSlowUploadThenHang(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	p := relayPlace(t)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, "outcome: {timeout: 1s}", "trip: [{consecutiveFailures: 1}]",
		"open: {duration: 5m}"), p.interfaces)
	p.server.Set(testserver.Behaviour{Ending: testserver.EndHang})
	began := time.Now()
	c := dial(t, p.place)
	if err := uploadSlowly(c, 200_000, 100_000); err != nil {
		t.Fatal(err)
	}
	sent := time.Now()
	opened, err := agent.Await(soon(t), p.backend.String(), "open", began)
	if err != nil {
		t.Fatal(err)
	}
	if after := opened.At.Sub(sent); after < timeout-50*time.Millisecond || after > timeout+500*time.Millisecond {
		t.Errorf("opened %s after the last byte, want %s", after, timeout)
	}
}
