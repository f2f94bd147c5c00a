package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/metrics"
	"github.com/cbagent/cbagent/internal/page"
)

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
// without: callers' protection matters more. So it does where an agent of another network namespace has the socket, which
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
	return serveHTTP(l, control.Handler(a, a.log), a.log), nil
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
	page.Register(mux, a.Snapshot, a.history.Last)
	return serveHTTP(l, mux, a.log), nil
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
func serveHTTP(l net.Listener, h http.Handler, log *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: control.ConnContext,
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
