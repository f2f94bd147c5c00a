package netlab

import (
	"context"
	"net"
	"net/http"
	"net/netip"
)

// Listen opens a plain TCP listener (never MPTCP, which is Go's default for listeners) in the namespace.
func (n *Namespace) Listen(addr netip.AddrPort) (net.Listener, error) {
	var l net.Listener
	err := n.Do(func() (err error) {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		l, err = lc.Listen(context.Background(), "tcp", addr.String())
		return err
	})
	return l, err
}

// DialContext connects from the namespace, with the signature that http.Transport wants. The address must be a
// literal one: a name would be looked up, and dialled, on threads of other namespaces.
func (n *Namespace) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	var c net.Conn
	err := n.Do(func() (err error) {
		var d net.Dialer
		d.SetMultipathTCP(false)
		c, err = d.DialContext(ctx, network, addr)
		return err
	})
	return c, err
}

// HTTPClient returns a client that connects from the namespace. It follows no redirect and uses no proxy. Note that
// Go's transport repeats an idempotent request when a connection that it reuses turns out to be closed.
func (n *Namespace) HTTPClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DialContext: n.DialContext},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
