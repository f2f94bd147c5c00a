package records

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/view"
)

func TestHappenedIsNotAwaited(t *testing.T) {
	var log bytes.Buffer // of the one goroutine that delivers
	returns, called := make(chan struct{}), 0
	h := newNotices(slog.New(slog.NewTextHandler(&log, nil)), func(breaker.Event, []discovery.Backend) {
		called++
		<-returns
	})
	put := make(chan struct{})
	go func() {
		defer close(put)
		for range 2 * maxNotices {
			h.Put(&notice{record: view.Record{Kind: "transition", Policy: "orders"}, event: &breaker.Event{}})
		}
	}()
	select {
	case <-put:
	case <-time.After(10 * time.Second):
		t.Fatal("what happens waits for Happened")
	}
	if n := h.Dropped(); n < maxNotices-1 || n > maxNotices {
		t.Errorf("%d dropped, want %d or one less", n, maxNotices)
	}
	close(returns)
	if !h.Close(10 * time.Second) {
		t.Fatal("not closed, though Happened returns")
	}
	if got := called + int(h.Dropped()); got != 2*maxNotices {
		t.Errorf("%d were called or dropped, want %d", got, 2*maxNotices)
	}
	if n := strings.Count(log.String(), "msg=transition"); n != called {
		t.Errorf("%d records logged, want %d", n, called)
	}
	if !strings.Contains(log.String(), "neither logged nor notified") {
		t.Error("the log does not say that records were dropped")
	}
}
