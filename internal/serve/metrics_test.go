package serve

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/cbagent/cbagent/internal/view"
)

// lines is a log that may be read while others write.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// leaving is an agent whose clients hang up while it is read.
type leaving struct {
	*agent
	hangUp func()
}

func (l *leaving) Snapshot() *view.Snapshot {
	l.hangUp()
	return l.agent.Snapshot()
}

// A client that hangs up before it has its response is no error of the agent.
func TestClientsThatHangUpAreNotLogged(t *testing.T) {
	for _, path := range []string{"/metrics", "/page.json"} {
		t.Run(path[1:], func(t *testing.T) {
			var log lines
			conns, read := make(chan *net.TCPConn, 1), make(chan struct{})
			a := &leaving{newAgent(t), func() {
				conn := <-conns
				// The close is a RST: the server's next write fails.
				if err := errors.Join(conn.SetLinger(0), conn.Close()); err != nil {
					t.Error(err)
				}
				close(read)
			}}
			s := New(slog.New(slog.NewTextHandler(&log, nil)))
			stop, err := s.Open(Options{MetricsAddress: "127.0.0.1:0", MetricsCircuits: 10}, a)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(stop)
			c, err := net.Dial("tcp", s.metrics.Load().Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			conns <- c.(*net.TCPConn)
			if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			<-read
			for deadline := time.Now().Add(requestTimeout); s.View()[0].Connections > 0; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the server does not end")
				}
			}
			if got := log.String(); got != "" {
				t.Errorf("%d lines were logged: %.300s", strings.Count(got, "\n"), got)
			}
		})
	}
}

// Errors of the agent itself are logged, and all other families are served.
func TestErrorsOfMetricsAreLogged(t *testing.T) {
	name, kind, value := "good", dto.MetricType_GAUGE, 1.0
	good := &dto.MetricFamily{Name: &name, Type: &kind, Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: &value}}}}
	for what, tc := range map[string]struct {
		families []*dto.MetricFamily
		err      error
		want     string
	}{
		"gathering": {[]*dto.MetricFamily{good}, errors.New("a collector failed"), "a collector failed"},
		"encoding":  {[]*dto.MetricFamily{{Name: &name, Type: &kind}, good}, nil, "no metrics"},
	} {
		t.Run(what, func(t *testing.T) {
			var log lines
			w := httptest.NewRecorder()
			gather := func() ([]*dto.MetricFamily, error) { return tc.families, tc.err }
			metricsHandler(prometheus.GathererFunc(gather), slog.New(slog.NewTextHandler(&log, nil))).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
			if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, tc.want) || !strings.Contains(got, "level=WARN") {
				t.Errorf("got the log %q, want a warning with %q", got, tc.want)
			}
			if !strings.Contains(w.Body.String(), "good 1\n") {
				t.Errorf("got %q", w.Body)
			}
		})
	}
}
