package kubeevents

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// logText collects log output and may be read while it is written.
type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Events for an API server that does not answer are dropped, counted and reported, and delay nothing.
func TestHangingAPI(t *testing.T) {
	client := fake.NewClientset()
	answers := make(chan struct{})
	client.PrependReactor("create", "events", func(clienttesting.Action) (bool, runtime.Object, error) {
		<-answers
		return false, nil, nil
	})
	var log logText
	r := New(t.Context(), client, "node-1", slog.New(slog.NewTextHandler(&log, nil)))
	defer r.Close()
	recorded := make(chan struct{})
	go func() {
		defer close(recorded)
		for range 2 * waiting {
			r.Record(pod, opened())
		}
	}()
	select {
	case <-recorded:
	case <-time.After(10 * time.Second):
		t.Fatal("Record waits for the API")
	}
	if n := r.Dropped(); n < waiting-1 || n > waiting {
		t.Errorf("%d events dropped, want %d, or one less", n, waiting)
	}
	close(answers)
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains(log.String(), "Kubernetes events were dropped") {
		if time.Now().After(deadline) {
			t.Fatalf("the log does not say it: %s", &log)
		}
		time.Sleep(time.Millisecond)
	}
}
