package console

import (
	"testing"

	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/tables"
)

func TestUnread(t *testing.T) {
	for name, c := range map[string]struct {
		admitted uint64
		begin    map[string]uint64
		want     string
		most     tables.Opening
	}{
		"no connection":       {0, nil, "", 0},
		"requests too":        {1, map[string]uint64{"tls": 9}, "", 0},
		"one":                 {0, map[string]uint64{"malformed-http2": 1}, "1 connection begins with malformed HTTP/2", tables.OpeningMalformed},
		"several kinds":       {0, map[string]uint64{"tls": 1, "proxy": 5, "other": 2}, "1 connection begins with TLS, 5 with a PROXY header, 2 with something else", tables.OpeningPROXY},
		"as many of one kind": {0, map[string]uint64{"tls": 2, "other": 2}, "2 connections begin with TLS, 2 with something else", tables.OpeningTLS},
	} {
		t.Run(name, func(t *testing.T) {
			u, ok := NewUnread(&control.Circuit{Admitted: c.admitted, OtherProtocols: c.begin})
			if ok != (c.want != "") || u.Begin != c.want || u.Most != c.most {
				t.Errorf("%v %+v, want %q, most of them %s", ok, u, c.want, c.most)
			}
		})
	}
}

func TestEveryProtocolHasWords(t *testing.T) {
	for i, p := range protocols {
		if p.name == "" || RemedyOf(tables.Opening(i)) == "" {
			t.Errorf("%s has no words", tables.Opening(i))
		}
	}
}

func TestProblemOfUnreadConnections(t *testing.T) {
	tls := map[string]uint64{"tls": 3}
	fine := control.Circuit{Backend: "192.0.2.6:80", Admitted: 5}
	for name, c := range map[string]struct {
		circuits []control.Circuit
		want     string
	}{
		"none":   {[]control.Circuit{fine}, ""},
		"one":    {[]control.Circuit{fine, {Backend: "192.0.2.7:80", OtherProtocols: tls}}, "policy p sees no request to 192.0.2.7:80: 3 connections begin with TLS; see cbagent doctor"},
		"shared": {[]control.Circuit{{Backend: "*", OtherProtocols: tls}}, "policy p sees no request to its backends: 3 connections begin with TLS; see cbagent doctor"},
		"more": {[]control.Circuit{{Backend: "192.0.2.7:80", OtherProtocols: tls}, {Backend: "192.0.2.8:80", OtherProtocols: tls}, fine, {Backend: "192.0.2.9:80", OtherProtocols: tls}},
			"policy p sees no request to 192.0.2.7:80 and 2 others: 3 connections begin with TLS; see cbagent doctor"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := unreadOf(&control.Policy{Name: "p", Circuits: c.circuits}); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
