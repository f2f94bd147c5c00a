package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/cbagent/cbagent/bench/proxy"
	"github.com/cbagent/cbagent/bench/ring"
	"github.com/cbagent/cbagent/bench/wire"
)

// serve is what the role "serve" is asked for.
type serve struct {
	At      netip.AddrPort
	Callers int
}

// ServeWire starts a wire.Server, as a process of its own, as backend i, for up to so many connections at once.
func (s *Site) ServeWire(i, callers int) error {
	argument, err := json.Marshal(serve{At: s.Backend(i), Callers: callers})
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	p, err := s.start(s.Backends[i].Namespace, "the backend", s.bench.Self, "child", "serve", string(argument))
	if err != nil {
		return err
	}
	return awaitPort(s.Backends[i].Namespace, s.Backend(i), p)
}

// Load sends a load from the client, as a process of its own.
func (s *Site) Load(l wire.Load) (wire.Result, error) {
	var r wire.Result
	err := s.Child(s.Client, "load", l, &r)
	return r, err
}

// Child is the main function of a process that a site started: role and argument are its command line. result is to be
// printed as JSON; nil if there is none.
func Child(ctx context.Context, role, argument string) (result any, err error) {
	switch role {
	case "proxy":
		return nil, proxy.Main(ctx, argument)
	case "ring":
		return ring.Main(ctx, argument)
	case "serve":
		var o serve
		if err := json.Unmarshal([]byte(argument), &o); err != nil {
			return nil, fmt.Errorf("serve: %w", err)
		}
		server, err := wire.Listen(o.At)
		if err != nil {
			return nil, err
		}
		return nil, server.Serve(o.Callers)
	case "load":
		var l wire.Load
		if err := json.Unmarshal([]byte(argument), &l); err != nil {
			return nil, fmt.Errorf("load: %w", err)
		}
		return l.Run()
	}
	return nil, fmt.Errorf("no role %q", role)
}
