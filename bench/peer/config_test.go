package peer

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cbagent/cbagent/bench/peer/proxy"
)

var (
	front   = netip.MustParseAddrPort("192.0.2.1:8000")
	backend = netip.MustParseAddrPort("198.51.100.2:8080")
)

// Each setting must find its way into every peer's configuration: a peer that was not told of it would be compared unfairly.
func TestConfigsSayTheSettings(t *testing.T) {
	trip := Settings{Trip: proxy.Trip{Consecutive: 7}, Open: 3 * time.Second, Timeout: 250 * time.Millisecond}
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"haproxy", haproxyConfig(front, backend, trip), []string{
			"bind 192.0.2.1:8000", "server s 198.51.100.2:8080 check inter 3000ms", "error-limit 7", "timeout server 250ms", "timeout connect 250ms", "nbthread 1"}},
		{"haproxy, rejecting", haproxyConfig(front, backend, Settings{Answer: 503}), []string{"return status 503", RejectionBody}},
		{"nginx", nginxConfig(front, backend, trip), []string{
			"listen 192.0.2.1:8000", "server 198.51.100.2:8080 max_fails=7 fail_timeout=3s", "proxy_read_timeout 250ms", "worker_processes 1", "return 503"}},
		{"nginx, rejecting", nginxConfig(front, backend, Settings{Answer: 503, Close: true}), []string{"return 503 '" + RejectionBody, "keepalive_timeout 0s"}},
		{"cbagent", PolicyFile(trip, backend), []string{
			`"198.51.100.2:8080"`, "consecutiveFailures: 7", "duration: 3s", "timeout: 250ms", "connectTimeout: 250ms"}},
		{"cbagent, rejecting", PolicyFile(Settings{Answer: 503}, backend), []string{"forced-open", "status: 503", RejectionBody}},
		{"haproxy, gRPC", haproxyConfig(front, backend, Settings{GRPC: true}), []string{"bind 192.0.2.1:8000 proto h2", "server s 198.51.100.2:8080 proto h2"}},
		{"haproxy, rejecting gRPC", haproxyConfig(front, backend, Settings{GRPC: true, Answer: 14}), []string{"grpc-status 14", RejectionMessage}},
		{"nginx, gRPC", nginxConfig(front, backend, Settings{GRPC: true, Timeout: 250 * time.Millisecond}), []string{
			"listen 192.0.2.1:8000 http2", "grpc_pass grpc://back", "server 198.51.100.2:8080", "grpc_read_timeout 250ms"}},
		{"nginx, rejecting gRPC", nginxConfig(front, backend, Settings{GRPC: true, Answer: 14}), []string{"http2", "grpc-status 14", RejectionMessage}},
		{"cbagent, gRPC", PolicyFile(Settings{GRPC: true}, backend), []string{"protocol: grpc"}},
		{"cbagent, rejecting gRPC", PolicyFile(Settings{GRPC: true, Answer: 14}, backend), []string{"forced-open", "grpcStatus: 14", RejectionMessage}},
		{"cbagent, by rate", PolicyFile(Settings{Trip: proxy.Trip{Rate: 0.25, MinCalls: 30}}, backend), []string{"failureRate: 0.25", "minCalls: 30"}},
	} {
		for _, want := range c.want {
			if !strings.Contains(c.text, want) {
				t.Errorf("%s: its configuration lacks %q:\n%s", c.name, want, c.text)
			}
		}
	}
}

func TestMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if Missing(HAProxy) == nil || Missing(Nginx) == nil {
		t.Error("a peer that is not installed is not missing")
	}
	if err := Missing(Cbagent); err != nil {
		t.Error(err)
	}
}
