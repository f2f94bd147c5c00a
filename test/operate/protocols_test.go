package operate

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/cbagent/cbagent/internal/control"
)

// follow adds a backend to the policy, and returns when the agent follows it.
func (s *stage) follow(at netip.AddrPort, keys ...string) {
	s.t.Helper()
	s.targets = append(s.targets, at)
	s.writePolicy(s.targets, keys...)
	eventually(s.t, at.String()+" is followed", func() bool {
		_, ok := s.scrape()[fmt.Sprintf("cbagent_admitted_total{backend=%q}", at)]
		return ok
	})
}

// circuit returns a backend's circuit as the status shows it.
func (s *stage) circuit(at netip.AddrPort) control.Circuit {
	s.t.Helper()
	status, err := s.client.Status(soon(s.t), "orders/"+at.String())
	if err != nil {
		s.t.Fatal(err)
	}
	return status.Policies[0].Circuits[0]
}

// A backend that speaks TLS behind an http policy is named wherever an operator looks, and its neighbour is not.
func TestTLSBehindAnHTTPPolicy(t *testing.T) {
	s := newStage(t, 1, nil)
	s.agent.Expect("connections of an http policy carry no request that is observed")
	plain, secure := s.targets[0], netip.AddrPortFrom(s.Backends[0].IPv4, 8443)
	l, err := s.Backends[0].Listen(secure)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	if err := server.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	server.Listener = l
	server.StartTLS()
	t.Cleanup(server.Close)
	s.follow(secure)

	const calls = 3
	transport := server.Client().Transport.(*http.Transport).Clone()
	transport.DialContext, transport.DisableKeepAlives = s.Client.DialContext, true
	transport.TLSClientConfig.ServerName = "example.com" // which the server's certificate is for
	client := &http.Client{Transport: transport, Timeout: patience}
	for range calls {
		resp, err := client.Get("https://" + secure.String())
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s, %v", resp.Status, err)
		}
	}
	s.load(0, calls, 1)

	got := s.scrape()
	for name, want := range map[string][2]float64{
		`cbagent_other_protocol_connections_total{protocol="tls"}`: {0, calls}, "cbagent_admitted_total{}": {calls, 0},
	} {
		name, labels, _ := strings.Cut(strings.TrimSuffix(name, "}"), "{")
		if have := [2]float64{got.of(name, plain, labels), got.of(name, secure, labels)}; have != want {
			t.Errorf("%s: %v, want %v", name, have, want)
		}
	}
	if c := s.circuit(secure); len(c.OtherProtocols) != 1 || c.OtherProtocols["tls"] != calls {
		t.Errorf("the status has %v, want %d of tls", c.OtherProtocols, calls)
	}
	if c := s.circuit(plain); len(c.OtherProtocols) != 0 {
		t.Errorf("of the other backend it has %v", c.OtherProtocols)
	}
	begin := fmt.Sprintf("%d connections begin with TLS", calls)
	status, _, _ := s.run("status")
	if want := fmt.Sprintf("! policy orders sees no request to %s: %s; ", secure, begin); !strings.HasPrefix(status, want) {
		t.Errorf("status says\n%swant it to begin with %q", status, want)
	}
	findings, _, code := s.run("doctor")
	if code != 0 || strings.Contains(findings, plain.String()) || !containsLine(findings, "note", "orders/"+secure.String(), begin, "protocol: tcp") {
		t.Errorf("doctor ends with %d and says\n%s", code, findings)
	}
	logged := func(at netip.AddrPort) (n int) {
		for _, line := range s.agent.Warnings() {
			if containsLine(line, "no request that is observed", at.String(), `"protocol":"tls"`, "protocol: tcp") {
				n++
			}
		}
		return n
	}
	eventually(t, "it is logged", func() bool { return logged(secure) > 0 })
	if logged(secure) != 1 || logged(plain) != 0 {
		t.Errorf("logged %q", s.agent.Warnings())
	}
}

// containsLine reports whether some line has all parts.
func containsLine(text string, parts ...string) bool {
	for line := range strings.Lines(text) {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(line, p)
		}
		if all {
			return true
		}
	}
	return false
}
