package operate

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/testserver"
	"github.com/cbagent/cbagent/internal/view"
)

// What a record says must not change when more happens.
func TestRecordsKeepTheirNumbers(t *testing.T) {
	s := newStage(t, 1, []string{"trip: {consecutiveFailures: 3}"})
	s.servers[0].Set(testserver.Behaviour{Status: 500})
	began := time.Now()
	s.load(0, 3, 1)
	if _, err := s.agent.Await(soon(t), s.targets[0].String(), "open", began); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		out, errs, code := s.run(args...)
		if code != 0 {
			t.Fatal(args, errs)
		}
		return out
	}
	for range 3 {
		run("open", "orders", "--reason", "a test")
		run("auto", "orders", "--reason", "a test")
	}
	found := false
	for line := range strings.Lines(run("events", "-o", "json")) {
		var r view.Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(line, err)
		}
		if r.Reason == "consecutiveFailures" {
			found = true
			if r.Value == nil || r.Threshold == nil || *r.Value != 3 || *r.Threshold != 3 {
				t.Errorf("the numbers of the trip became %s", line)
			}
		}
	}
	if !found {
		t.Error("the trip is not among the records")
	}
}
