package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"

	"github.com/cbagent/cbagent/bench/peer/proxy"
	"github.com/cbagent/cbagent/bench/peer/ring"
	"github.com/cbagent/cbagent/bench/wire"
)

// ServeWire starts a wire.Server, as a process of its own, as backend i.
func (s *Site) ServeWire(i int) error { return s.serve(i, "serve") }

// ServeGo starts a server as people write them, Go's own, as backend i.
func (s *Site) ServeGo(i int) error { return s.serve(i, "serve-go") }

// ServeCalls starts a wire.Server for gRPC calls, as a process of its own, as backend i.
func (s *Site) ServeCalls(i int) error { return s.serve(i, "serve-grpc") }

// ServeFortio starts fortio's gRPC server, which is grpc-go's, as backend i.
func (s *Site) ServeFortio(i int) error {
	return s.serveBy(i, s.bench.Tool("fortio"), "server", "-quiet", "-http-port", "disabled", "-redirect-port", "disabled",
		"-tcp-port", "disabled", "-udp-port", "disabled", "-grpc-port", s.Backend(i).String())
}

func (s *Site) serve(i int, role string) error {
	return s.serveBy(i, s.bench.Self, "child", role, s.Backend(i).String())
}

func (s *Site) serveBy(i int, command ...string) error {
	p, err := s.start(s.Backends[i].Namespace, "the backend", command...)
	if err != nil {
		return err
	}
	return awaitPort(s.Backends[i].Namespace, s.Backend(i), p)
}

// Load sends a load from the client, as a process of its own.
func (s *Site) Load(l wire.Load) (wire.Result, error) {
	var r wire.Result
	err := s.child(s.Client, "load", l, &r)
	return r, err
}

// serveGo answers as wire.Server does.
func serveGo(ctx context.Context, at string) error {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, "tcp", at)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	body := bytes.Repeat([]byte("0123456789"), 10)
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }))
}

// Child is the main function of a process that a site started: role and argument are its command line. result is to be
// printed as JSON; nil if there is none.
func Child(ctx context.Context, role, argument string) (result any, err error) {
	switch role {
	case "proxy":
		return nil, proxy.Main(ctx, argument)
	case "ring":
		return ring.Main(ctx, argument)
	case "serve", "serve-grpc":
		at, err := netip.ParseAddrPort(argument)
		if err != nil {
			return nil, fmt.Errorf("serve: %w", err)
		}
		listen := wire.Listen
		if role == "serve-grpc" {
			listen = wire.ListenGRPC
		}
		server, err := listen(at)
		if err != nil {
			return nil, err
		}
		return nil, server.Serve()
	case "serve-go":
		return nil, serveGo(ctx, argument)
	case "load":
		var l wire.Load
		if err := json.Unmarshal([]byte(argument), &l); err != nil {
			return nil, fmt.Errorf("load: %w", err)
		}
		return l.Run()
	}
	return nil, fmt.Errorf("no role %q", role)
}
