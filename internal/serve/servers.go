// Package serve opens the agent's listeners: metrics, health and the page on one address, and the control socket.
package serve

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

	"github.com/cbagent/cbagent/internal/connlimit"
	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/metrics"
	"github.com/cbagent/cbagent/internal/page"
	"github.com/cbagent/cbagent/internal/view"
)

// Limits of the resources that clients of the agent's servers can use.
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

// The answer for a client above the limit of connections. That of the control socket has the format of its API.
const (
	noMetricsConnection = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n" +
		"all connections of this server are busy; see cbagent_server_connections\n"
	noControlConnection = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" +
		`{"error":"all connections of the control socket are busy: end commands that follow, or try again"}` + "\n"
)

// Options set which servers to open.
type Options struct {
	MetricsAddress  string // ADDRESS:PORT of metrics, health and the page; empty: none
	MetricsOptional bool   // an address that cannot be opened is no error
	MetricsCircuits int    // with series of their own; more are summed by policy
	ControlSocket   string // path; empty: none
	ControlGroup    string // group whose members may use the socket besides root; empty: none
}

// Agent is the part of an agent that the servers use.
type Agent interface {
	control.Agent
	Healthy() error // nil, or an error of the event loop
}

// Servers are the listeners. View may be called from any goroutine.
type Servers struct {
	log              *slog.Logger
	metrics, control atomic.Pointer[connlimit.Listener] // nil before they are open
}

// New returns Servers that are not open yet.
func New(log *slog.Logger) *Servers { return &Servers{log: log} }

// View returns the state of the open listeners.
func (s *Servers) View() []view.Server {
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

// Open opens the servers of the options. The function that it returns closes them.
func (s *Servers) Open(o Options, a Agent) (stop func(), err error) {
	stopMetrics, err := s.openMetrics(&o, a)
	if err != nil {
		return nil, err
	}
	stopControl, err := s.openControl(&o, a)
	if err != nil {
		stopMetrics()
		return nil, err
	}
	return func() {
		stopControl()
		stopMetrics()
	}, nil
}

// openControl opens the control socket. If it cannot be created, such as on a read-only file system, the agent runs without
// it, because protection has priority. The same holds if an agent of another network namespace has the socket, which shares
// nothing else with this one. Another agent of this namespace, or a group that does not exist, is an error.
func (s *Servers) openControl(o *Options, a Agent) (stop func(), err error) {
	if o.ControlSocket == "" {
		return func() {}, nil
	}
	l, err := control.Listen(o.ControlSocket, o.ControlGroup)
	if errors.Is(err, control.ErrInUse) || errors.Is(err, control.ErrGroup) {
		return nil, err
	}
	if err != nil {
		s.log.Error("cannot open the control socket: no command can control this agent", "error", err)
		return func() {}, nil
	}
	bounded := connlimit.New(l, maxControlConnections, noControlConnection)
	s.control.Store(bounded)
	return serveHTTP(bounded, control.Handler(a, s.log), s.log), nil
}

func (s *Servers) openMetrics(o *Options, a Agent) (stop func(), err error) {
	if o.MetricsAddress == "" {
		return func() {}, nil
	}
	l, err := net.Listen("tcp", o.MetricsAddress)
	if err != nil {
		err = fmt.Errorf("serve metrics: %w; give another address with --metrics-address, or an empty one for none", err)
		if o.MetricsOptional {
			s.log.Error("cannot open the address of the metrics: this agent shows none", "error", err)
			return func() {}, nil
		}
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metricsHandler(metrics.New(a.Snapshot, o.MetricsCircuits, true), s.log))
	mux.HandleFunc("GET /healthz", answersWith(a.Healthy))
	mux.HandleFunc("GET /readyz", answersWith(a.Ready))
	page.Register(mux, a.Snapshot, a.Last)
	bounded := connlimit.New(l, maxMetricsConnections, noMetricsConnection)
	s.metrics.Store(bounded)
	return serveHTTP(bounded, withoutBody(mux), s.log), nil
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
			log.Error("cannot serve", "address", l.Addr(), "error", err)
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
