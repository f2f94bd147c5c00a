package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cbagent/cbagent/internal/connlimit"
	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/metrics"
	"github.com/cbagent/cbagent/internal/page"
	"github.com/cbagent/cbagent/internal/view"
)

// Bounds of what clients of the agent's servers can cost.
const (
	maxMetricsConnections = 64
	maxControlConnections = 128
	maxHeaderBytes        = 16 << 10 // net/http allows some more

	// requestTimeout is how long a client may take to send a request, and idleTimeout how long to send the next one.
	requestTimeout = 10 * time.Second
	idleTimeout    = 2 * time.Minute
	// responseTimeout is how long a client may take to read a response. Streams move it on with each write.
	responseTimeout = 30 * time.Second
)

// What a client gets for whom there is no connection left. The control socket's is an answer of its API.
const (
	noMetricsConnection = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n" +
		"all connections of this server are busy; see cbagent_server_connections\n"
	noControlConnection = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" +
		`{"error":"all connections of the control socket are busy: end commands that follow, or try again"}` + "\n"
)

// servers are the listeners of the agent, nil before they are open.
type servers struct {
	metrics, control atomic.Pointer[connlimit.Listener]
}

// view returns what is to be shown of those that are open.
func (s *servers) view() []view.Server {
	var all []view.Server
	for name, p := range map[string]*atomic.Pointer[connlimit.Listener]{"control": &s.control, "metrics": &s.metrics} {
		if l := p.Load(); l != nil {
			n := l.Counts()
			all = append(all, view.Server{Name: name, Connections: n.Open, Evicted: n.Evicted, Rejected: n.Rejected})
		}
	}
	slices.SortFunc(all, func(x, y view.Server) int { return cmp.Compare(x.Name, y.Name) })
	return all
}

// serve opens what the agent shows to the outside. The function that it returns ends it.
func (a *Agent) serve() (stop func(), err error) {
	stopMetrics, err := a.serveMetrics()
	if err != nil {
		return nil, err
	}
	stopControl, err := a.serveControl()
	if err != nil {
		stopMetrics()
		return nil, err
	}
	return func() {
		stopControl()
		stopMetrics()
	}, nil
}

// serveControl opens the control socket. Where it cannot be made, such as on a read-only file system, the agent goes on
// without: clients' protection matters more. So it does where an agent of another network namespace has the socket, which
// shares nothing else with this one. Another agent of this namespace, or a group that there is not, is an error.
func (a *Agent) serveControl() (stop func(), err error) {
	if a.cfg.ControlSocket == "" {
		return func() {}, nil
	}
	l, err := control.Listen(a.cfg.ControlSocket, a.cfg.ControlGroup)
	if errors.Is(err, control.ErrInUse) || errors.Is(err, control.ErrGroup) {
		return nil, err
	}
	if err != nil {
		a.log.Error("nobody can control this agent", "error", err)
		return func() {}, nil
	}
	bounded := connlimit.New(l, maxControlConnections, noControlConnection)
	a.servers.control.Store(bounded)
	return serveHTTP(bounded, control.Handler(a, a.log), a.log), nil
}

func (a *Agent) serveMetrics() (stop func(), err error) {
	if a.cfg.MetricsAddress == "" {
		return func() {}, nil
	}
	l, err := net.Listen("tcp", a.cfg.MetricsAddress)
	if err != nil {
		err = fmt.Errorf("serve metrics: %w; give another address with --metrics-address, or an empty one for none", err)
		if a.cfg.MetricsOptional {
			a.log.Error("nobody can see the metrics of this agent", "error", err)
			return func() {}, nil
		}
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics.New(a.Snapshot, a.cfg.MetricsCircuits, true), promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4,
	}))
	mux.HandleFunc("GET /healthz", answersWith(a.Healthy))
	mux.HandleFunc("GET /readyz", answersWith(a.Ready))
	page.Register(mux, a.Snapshot, a.dir.History.Last)
	bounded := connlimit.New(l, maxMetricsConnections, noMetricsConnection)
	a.servers.metrics.Store(bounded)
	return serveHTTP(bounded, withoutBody(mux), a.log), nil
}

// withoutBody serves requests that need no body without waiting for one: a server reads it to its end, for as long as the
// whole request may take.
func withoutBody(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now()) // without it, it waits
		}
		h.ServeHTTP(w, r)
	})
}

func answersWith(check func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if err := check(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, err)
			return
		}
		fmt.Fprintln(w, "ok")
	}
}

// serveHTTP serves until the function that it returns is called.
func serveHTTP(l *connlimit.Listener, h http.Handler, log *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	server := &http.Server{
		Handler: h, ReadTimeout: requestTimeout, WriteTimeout: responseTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: control.ConnContext,
		ConnState:   l.ConnState,
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("serve", "address", l.Addr(), "error", err)
		}
	}()
	return func() {
		cancel() // streams end
		end, done := context.WithTimeout(context.Background(), time.Second)
		defer done()
		if server.Shutdown(end) != nil {
			_ = server.Close()
		}
	}
}
