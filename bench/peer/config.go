package peer

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// haproxyConfig configures one thread in front of one backend. With a trip its answers and errors are observed, and a
// health check brings it back.
func haproxyConfig(front, backend netip.AddrPort, o Settings) string {
	timeouts := o.HAProxyTimeouts
	if timeouts == "" {
		timeouts = fmt.Sprintf("timeout connect %dms\n  timeout server %dms\n  timeout queue %[2]dms",
			o.timeout().Milliseconds(), o.timeout().Milliseconds())
	}
	var b strings.Builder
	fmt.Fprintf(&b, `global
  nbthread 1
  maxconn 9500
defaults
  mode http
  timeout client 60s
  timeout http-keep-alive 60s
  timeout check %dms
  %s
  retries 0
frontend front
  bind %s%s
`, max(o.timeout(), 100*time.Millisecond).Milliseconds(), timeouts, front, o.haproxyProtocol())
	if o.Answer != 0 && o.GRPC {
		fmt.Fprintf(&b, "  http-request return status 200 hdr content-type application/grpc hdr grpc-status %d hdr grpc-message '%s'\n",
			o.Answer, RejectionMessage)
	} else if o.Answer != 0 {
		fmt.Fprintf(&b, "  http-request return status %d content-type application/json string '%s'\n", o.Answer, RejectionBody)
	}
	if o.HAProxyFront != "" {
		fmt.Fprintf(&b, "  %s\n", o.HAProxyFront)
	}
	fmt.Fprintf(&b, "  default_backend back\nbackend back\n")
	server := o.HAProxyServer
	if server == "" && o.Trip.Consecutive > 0 {
		if !o.GRPC { // a gRPC server answers nothing else; that it accepts connections must do
			b.WriteString("  option httpchk GET /health\n")
		}
		server = fmt.Sprintf("check inter %dms fall 1 rise 1 observe layer7 error-limit %d on-error mark-down",
			o.Open.Milliseconds(), o.Trip.Consecutive)
	}
	fmt.Fprintf(&b, "  server s %s%s %s\n", backend, o.haproxyProtocol(), server)
	return b.String()
}

func (o Settings) haproxyProtocol() string {
	if o.GRPC {
		return " proto h2"
	}
	return ""
}

// nginxConfig configures one worker in front of one backend. With a trip there is a second, spare server on the node
// itself that answers 503: nginx ignores max_fails of an only server.
func nginxConfig(front, backend netip.AddrPort, o Settings) string {
	var b strings.Builder
	b.WriteString(`daemon off;
worker_processes 1;
pid nginx.pid;
events { worker_connections 9500; }
http {
  access_log off;
  keepalive_requests 1000000000;
`)
	idle := 60
	if o.Close {
		idle = 0
	}
	fmt.Fprintf(&b, "  keepalive_timeout %ds;\n", idle)
	http2 := ""
	if o.GRPC {
		http2 = " http2"
	}
	if o.Answer != 0 && o.GRPC {
		fmt.Fprintf(&b, "  server { listen %s%s; location / { default_type application/grpc; add_header grpc-status %d; "+
			"add_header grpc-message '%s'; return 200; } }\n}\n", front, http2, o.Answer, RejectionMessage)
		return b.String()
	}
	if o.Answer != 0 {
		fmt.Fprintf(&b, "  server { listen %s; location / { default_type application/json; return %d '%s'; } }\n}\n",
			front, o.Answer, RejectionBody)
		return b.String()
	}
	b.WriteString("  upstream back {\n")
	if n := o.Trip.Consecutive; n > 0 {
		fmt.Fprintf(&b, "    server %s max_fails=%d fail_timeout=%ds;\n    server 127.0.0.1:%d backup;\n",
			backend, n, int(max(1, o.Open.Seconds())), spillPort)
	} else {
		fmt.Fprintf(&b, "    server %s;\n", backend)
	}
	b.WriteString("    keepalive 256;\n    keepalive_requests 1000000000;\n  }\n")
	fmt.Fprintf(&b, "  server {\n    listen %s%s;\n    location / {\n", front, http2)
	pass := "proxy"
	if o.GRPC {
		pass = "grpc"
		b.WriteString("      grpc_pass grpc://back;\n")
	} else {
		b.WriteString("      proxy_pass http://back;\n      proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n")
	}
	fmt.Fprintf(&b, "      %[1]s_connect_timeout %[2]dms;\n      %[1]s_read_timeout %[2]dms;\n"+
		"      %[1]s_next_upstream error timeout http_500;\n    }\n  }\n", pass, o.timeout().Milliseconds())
	if o.Trip.Consecutive > 0 {
		fmt.Fprintf(&b, "  server { listen 127.0.0.1:%d%s; return 503; }\n", spillPort, http2)
	}
	b.WriteString("}\n")
	return b.String()
}
