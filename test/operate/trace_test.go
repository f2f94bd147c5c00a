package operate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/testserver"
)

var nil500 testserver.Decide = func(*http.Request, uint64) testserver.Behaviour { return testserver.Behaviour{Status: 500} }

// What a trace tells, replayed with the policy that was in force, gives the transitions that the agent made.
func TestTraceReplaysAsItWas(t *testing.T) {
	s := newStage(t, 2, []string{
		"trip: [{all: [{minCalls: 6}, {failureRate: 0.5}]}]", "window: {type: count, size: 10}",
		"open: {duration: 400ms, backoff: none}", "halfOpen: {calls: 2, timeout: 5s}",
	})
	ctx, stop := context.WithCancel(soon(t))
	defer stop()
	var trace bytes.Buffer
	var clock struct{ T float64 }
	lines := make(chan string, 10000)
	read := make(chan error, 1)
	go func() {
		read <- s.client.Trace(ctx, "orders", func(line []byte) error {
			lines <- string(line)
			return nil
		}, func(n uint64) { t.Errorf("%d lines were missed", n) })
		close(lines)
	}()
	eventually(t, "the trace is read", func() bool { return s.scrape()["cbagent_trace_readers"] == 1 })

	began := time.Now()
	at := s.targets[0].String()
	s.load(0, 20, 1)
	s.load(1, 20, 2)
	s.servers[0].Set(testserver.Behaviour{Status: 503})
	s.load(0, 12, 1)
	opened, err := s.agent.Await(soon(t), at, "open", began)
	if err != nil {
		t.Fatal(err)
	}
	// The probes fail, then pass.
	half, err := s.agent.Await(soon(t), at, "half-open", opened.At)
	if err != nil {
		t.Fatal(err)
	}
	s.load(0, 2, 1)
	again, err := s.agent.Await(soon(t), at, "open", half.At)
	if err != nil {
		t.Fatal(err)
	}
	s.servers[0].Set(testserver.Behaviour{})
	half, err = s.agent.Await(soon(t), at, "half-open", again.At)
	if err != nil {
		t.Fatal(err)
	}
	s.load(0, 4, 1)
	if _, err := s.agent.Await(soon(t), at, "closed", half.At); err != nil {
		t.Fatal(err)
	}
	// The trace is whole when its clock has moved on.
	deadline := time.Now().Add(patience)
	for line := range lines {
		trace.WriteString(line + "\n")
		if strings.Contains(line, `"tick"`) && json.Unmarshal([]byte(line), &clock) == nil && time.Since(began) > 3*time.Second {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no tick")
		}
	}
	stop()
	if err := <-read; err != nil {
		t.Fatal(err)
	}

	path := filepath.Join(t.TempDir(), "trace.jsonl")
	if err := os.WriteFile(path, trace.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	replayed, stderr := replay(t, s.policy, path)
	type move struct{ backend, from, to, reason, value string }
	var want, got []move
	for _, tr := range s.agent.Transitions() {
		want = append(want, move{tr.Backend, tr.From, tr.To, tr.Reason, fmt.Sprint(tr.Value)})
	}
	for line := range strings.Lines(replayed) {
		var e struct {
			Event, Backend, From, To, Reason string
			Value                            float64
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.Event == "transition" {
			got = append(got, move{e.Backend, e.From, e.To, e.Reason, fmt.Sprint(e.Value)})
		}
	}
	if !slices.Equal(got, want) || len(want) != 5 {
		t.Errorf("replayed: %v\nthe agent made: %v\nreplay said: %s\ntrace:\n%s", got, want, stderr, trace.String())
	}
	// Somebody stops reading: plain successes are no events any more.
	eventually(t, "the reader is gone", func() bool { return s.scrape()["cbagent_trace_readers"] == 0 })
	before := s.scrape()["cbagent_ring_events_total"]
	s.load(1, 50, 1)
	if after := s.scrape()["cbagent_ring_events_total"]; after-before > 10 {
		t.Errorf("%g events of 50 plain successes that nobody reads", after-before)
	}
}
