package e2e

import (
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// serveRaw hands each connection to an address to a function of its own goroutine, which closes it. All end with the test.
func serveRaw(t *testing.T, in *netlab.Namespace, at netip.AddrPort, handle func(net.Conn)) {
	t.Helper()
	l, err := in.Listen(at)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var open []net.Conn
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			serving.Go(func() { handle(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close() // it may be closed already
		}
		mu.Unlock()
		serving.Wait()
	})
}

// rawPlace is a relayed place whose backend speaks by hand, on a port of its own.
func rawPlace(t *testing.T, handle func(net.Conn)) relayed {
	t.Helper()
	p := relayPlace(t)
	p.backend = netip.AddrPortFrom(p.backend.Addr(), port+1)
	p.dial = p.backend
	serveRaw(t, p.home, p.backend, handle)
	return p
}
