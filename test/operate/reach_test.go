//go:build monitoring

package operate

import (
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
)

// reach makes the agent's metrics address, which is on the node's loopback, reachable from here, and returns its URL.
func (s *stage) reach() string {
	s.t.Helper()
	target, err := url.Parse("http://127.0.0.1:9464")
	if err != nil {
		s.t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = s.web().Transport
	server := httptest.NewServer(proxy)
	s.t.Cleanup(server.Close)
	return server.URL
}
