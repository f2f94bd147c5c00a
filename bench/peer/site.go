package peer

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// Ports. All backends of a site listen on the same one.
const (
	BackendPort = 8080
	frontPort   = 8000
	spillPort   = 8001 // on the node's loopback: where nginx sends what its only backend must not get
)

// Site is a network with a client, a node and backends, and what was started on the node.
type Site struct {
	*netlab.Star
	bench    *Bench
	folder   string // of configuration files
	running  []*process
	ending   []func() error
	backends []netip.AddrPort
	clients  *os.File // the cgroup in which clients run, if they have one
}

// Bench knows what sites share.
type Bench struct {
	Agent string // path of the cbagent binary
	Self  string // path of the bench's own binary, which serves as backend, load and proxy
	Tools string // folder of fortio, vegeta and the benchmarks' binaries
}

// Tool returns the path of a tool.
func (b *Bench) Tool(name string) string { return filepath.Join(b.Tools, name) }

// NewSite makes a network with n backends' namespaces.
func (b *Bench) NewSite(backends int) (*Site, error) {
	star, err := netlab.NewStar(netlab.Options{Backends: backends})
	if err != nil {
		return nil, fmt.Errorf("make the network: %w", err)
	}
	s := &Site{Star: star, bench: b}
	for _, n := range star.Backends {
		s.backends = append(s.backends, netip.AddrPortFrom(n.IPv4, BackendPort))
	}
	if s.folder, err = os.MkdirTemp("", "cbagent-bench-"); err != nil {
		return nil, errors.Join(fmt.Errorf("make a folder: %w", err), star.Close())
	}
	return s, nil
}

// Backend returns the address of backend i, from 0.
func (s *Site) Backend(i int) netip.AddrPort { return s.backends[i] }

// OnClose adds what is to be done when the site is closed; what was added last is done first.
func (s *Site) OnClose(do func() error) { s.ending = append(s.ending, do) }

// Close ends everything in the site. A second call does nothing.
func (s *Site) Close() error {
	var errs []error
	for i := len(s.ending) - 1; i >= 0; i-- {
		errs = append(errs, s.ending[i]())
	}
	s.ending = nil
	for i := len(s.running) - 1; i >= 0; i-- {
		s.running[i].stop()
	}
	s.running = nil
	errs = append(errs, s.Star.Close(), os.RemoveAll(s.folder))
	return errors.Join(errs...)
}

// file writes a configuration file and returns its path.
func (s *Site) file(name, text string) (string, error) {
	path := filepath.Join(s.folder, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	return path, nil
}

// startsWithin is how long a process may take until it accepts connections.
const startsWithin = 20 * time.Second

// awaitPort returns when a port of the namespace accepts a connection.
func awaitPort(in *netlab.Namespace, at netip.AddrPort, p *process) error {
	ctx, cancel := context.WithTimeout(context.Background(), startsWithin)
	defer cancel()
	for {
		c, err := in.DialContext(ctx, "tcp", at.String())
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended at once: %w: %s", p.name, p.err, p.said())
		case <-ctx.Done():
			return fmt.Errorf("%s does not accept connections on %s: %w: %s", p.name, at, err, p.said())
		case <-time.After(2 * time.Millisecond):
		}
	}
}
