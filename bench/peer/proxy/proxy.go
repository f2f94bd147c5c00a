// Package proxy is the small reverse proxy that stands for "a breaker library in a proxy of one's own": net/http with
// gobreaker, failsafe-go or oxy.
package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"time"
)

// Breaker names a library.
type Breaker string

// Breakers.
const (
	Gobreaker Breaker = "gobreaker"
	Failsafe  Breaker = "failsafe-go"
	Oxy       Breaker = "oxy"
)

// Options of a proxy with one backend.
type Options struct {
	Breaker Breaker
	Listen  netip.AddrPort
	Backend netip.AddrPort
	Timeout time.Duration // of connecting, and of waiting for an answer's head; 0 = none
	Trip    Trip
	Open    time.Duration // how long to reject clients; then one probe decides, with oxy a ramp of the same length
}

// Trip says when the breaker opens.
type Trip struct {
	Consecutive uint32  // failures in a row; 0: by Rate
	Rate        float64 // share of failures among the last 10 s
	MinCalls    uint32  // needed to judge the rate (oxy has no such thing)
}

// Run serves until ctx ends, with one thread of Go code, as the other proxies have one.
func Run(ctx context.Context, o Options) error {
	runtime.GOMAXPROCS(1)
	handler, err := o.handler()
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	listener, err := lc.Listen(ctx, "tcp", o.Listen.String())
	if err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	server := &http.Server{Handler: handler, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(listener); ctx.Err() == nil {
		return fmt.Errorf("proxy: %w", err)
	}
	return nil
}

// Main runs the proxy whose options are the argument, as JSON.
func Main(ctx context.Context, argument string) error {
	var o Options
	if err := json.Unmarshal([]byte(argument), &o); err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	return Run(ctx, o)
}

// transport keeps as many connections to the backend as there are clients.
func (o Options) transport() http.RoundTripper {
	dialer := &net.Dialer{Timeout: o.Timeout}
	dialer.SetMultipathTCP(false)
	return &http.Transport{
		DialContext:           dialer.DialContext,
		MaxIdleConns:          0,
		MaxIdleConnsPerHost:   1024,
		ResponseHeaderTimeout: o.Timeout,
		DisableCompression:    true,
	}
}

func (o Options) handler() (http.Handler, error) {
	target := &url.URL{Scheme: "http", Host: o.Backend.String()}
	reverse := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: o.transport(),
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			status := http.StatusBadGateway
			if isOpen(err) {
				status = http.StatusServiceUnavailable
			} else if os.IsTimeout(err) {
				status = http.StatusGatewayTimeout
			}
			http.Error(w, http.StatusText(status), status)
		},
	}
	switch o.Breaker {
	case Gobreaker:
		reverse.Transport = newGobreaker(o, reverse.Transport)
	case Failsafe:
		reverse.Transport = newFailsafe(o, reverse.Transport)
	case Oxy:
		return newOxy(o, reverse)
	default:
		return nil, fmt.Errorf("proxy: no breaker %q", o.Breaker)
	}
	return reverse, nil
}
