package operate

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/cbagent/cbagent/internal/history"
	"github.com/cbagent/cbagent/internal/view"
)

// crowd opens connections and sends the same on each.
func crowd(t *testing.T, n int, dial func() (net.Conn, error), says string) {
	t.Helper()
	for range n {
		c, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if _, err := io.WriteString(c, says); err != nil {
			t.Fatal(err)
		}
	}
}

// Connections that nobody uses cost a bounded amount of memory, and lock nobody out.
func TestCrowdAtTheMetricsAddress(t *testing.T) {
	const most = 64
	s := newStage(t, 1, nil)
	dial := func() (net.Conn, error) { return s.Node.DialContext(soon(t), "tcp", "127.0.0.1:9464") }
	crowd(t, 10*most, dial, "")
	got := s.scrape()
	if n := got[`cbagent_server_connections{server="metrics"}`]; n > most {
		t.Errorf("%g connections", n)
	}
	if n := got[`cbagent_server_connections_evicted_total{server="metrics"}`]; n < 9*most {
		t.Errorf("%g were closed to make room", n)
	}
	if n := got[`cbagent_server_connections_rejected_total{server="metrics"}`]; n != 0 {
		t.Errorf("%g were rejected, although nobody was busy", n)
	}

	crowd(t, 2*most, dial, "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Half: ")
	crowd(t, 2*most, dial, "GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
	for range 10 {
		if status, body := s.get("/healthz"); status != http.StatusOK {
			t.Errorf("with half-sent requests: %d %q", status, body)
		}
	}
}

// Followers are bounded: one too many is told so, and everybody else can still ask.
func TestCrowdOfFollowers(t *testing.T) {
	s := newStage(t, 1, nil)
	dial := func() (net.Conn, error) { return net.Dial("unix", s.socket) }
	crowd(t, history.MaxFollowers, dial, "GET /v1/events?follow=true HTTP/1.1\r\nHost: x\r\n\r\n")
	eventually(t, "the followers are there", func() bool { return s.scrape()["cbagent_event_readers"] == history.MaxFollowers })
	_, stderr, code := s.run("events", "--follow")
	if want := fmt.Sprintf("cbagent: %d readers follow the events already: end one of them, or ask again without following\n", history.MaxFollowers); code != 1 || stderr != want {
		t.Errorf("one too many: exit code %d, %q; want 1, %q", code, stderr, want)
	}
	if n := s.scrape()["cbagent_event_readers_rejected_total"]; n != 1 {
		t.Errorf("%g were rejected", n)
	}
	if _, stderr, code := s.run("events"); code != 0 {
		t.Errorf("without following: exit code %d, %q", code, stderr)
	}
}

// Connections to the control socket are bounded: one too many gets an answer, and a request that is never sent to its end is
// given up. A follower stays, although it sends nothing for longer than that.
func TestCrowdAtTheControlSocket(t *testing.T) {
	const most = 128
	s := newStage(t, 1, nil)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	followed, seen := make(chan error, 1), false
	go func() {
		followed <- s.client.Events(ctx, "", 0, true, func(view.Record) error { seen = true; stop(); return nil }, func(uint64) {})
	}()
	eventually(t, "the follower is there", func() bool { return s.scrape()["cbagent_event_readers"] == 1 })
	dial := func() (net.Conn, error) { return net.Dial("unix", s.socket) }
	crowd(t, 2*most, dial, "POST /v1/override HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
	eventually(t, "one too many gets an answer", func() bool {
		_, stderr, code := s.run("status")
		return code == 1 && strings.Contains(stderr, "all connections of the control socket are busy")
	})
	got := s.scrape()
	if n := got[`cbagent_server_connections_rejected_total{server="control"}`]; n == 0 {
		t.Error("none was counted as rejected")
	}
	if n := got[`cbagent_server_connections{server="control"}`]; n > most {
		t.Errorf("%g connections", n)
	}
	eventually(t, "half-sent requests are given up", func() bool {
		_, _, code := s.run("status")
		return code == 0
	})
	if _, stderr, code := s.run("open", "orders", "--reason", "a test"); code != 0 {
		t.Fatal(stderr)
	}
	select {
	case err := <-followed:
		if err != nil || !seen {
			t.Errorf("the follower ended: %v, it saw the override: %v", err, seen)
		}
	case <-soon(t).Done():
		t.Error("the follower sees nothing")
	}
}
