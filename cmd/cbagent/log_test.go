package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// failing is the command line of an agent that ends before it loads programs.
var failing = []string{"run", "--policy", "/there/is/none.yaml", "--interface", "cb-none*"}

func TestLastWordsAreWritten(t *testing.T) {
	_, stderr, code := cbagent(t, "", failing...)
	if code != 1 || strings.Count(stderr, "cbagent: ") != 1 || !strings.Contains(stderr, "/there/is/none.yaml") {
		t.Errorf("code %d, stderr %q; want code 1 and the error once", code, stderr)
	}
}

// stalled is a log whose reader never reads.
type stalled chan struct{}

func (s stalled) Write([]byte) (int, error) { <-s; return 0, nil }

func TestUnreadLogDoesNotKeepTheAgentFromEnding(t *testing.T) {
	log := make(stalled)
	defer close(log)
	ended := make(chan int, 1)
	go func() {
		ended <- run(failing, &env{stdin: strings.NewReader(""), stdout: new(bytes.Buffer), stderr: log})
	}()
	select {
	case code := <-ended:
		if code != 1 {
			t.Errorf("code %d, want 1", code)
		}
	case <-time.After(lastWords + 10*time.Second):
		t.Fatal("the agent waits for who reads its log")
	}
}
