package doctor

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cbagent/cbagent/internal/control"
)

// Each backend without requests is found, with a remedy for what most of its connections begin with.
func TestRequests(t *testing.T) {
	p := control.Policy{Name: "orders", Circuits: []control.Circuit{
		{Policy: "orders", Backend: "192.0.2.1:80", Admitted: 1, OtherProtocols: map[string]uint64{"tls": 9}},
		{Policy: "orders", Backend: "192.0.2.2:80"},
		{Policy: "orders", Backend: "192.0.2.3:80", OtherProtocols: map[string]uint64{"tls": 2, "other": 1}},
		{Policy: "orders", Backend: "192.0.2.4:80", OtherProtocols: map[string]uint64{"proxy": 2}},
	}}
	got := requests(&p)
	if len(got) != 2 || Failed(got) {
		t.Fatalf("got %+v, want notes about two backends", got)
	}
	for i, want := range []Check{
		{Name: "requests to orders/192.0.2.3:80", Level: Note, Says: "2 connections begin with TLS, 1 with something else", Remedy: "TLS is not decrypted"},
		{Name: "requests to orders/192.0.2.4:80", Level: Note, Says: "2 connections begin with a PROXY header", Remedy: "the header is skipped"},
	} {
		c := got[i]
		if c.Name != want.Name || c.Level != want.Level || !strings.HasSuffix(c.Says, ": "+want.Says) || !strings.HasPrefix(c.Remedy, want.Remedy) {
			t.Errorf("%+v, want %+v", c, want)
		}
	}
}

func TestManyBackendsWithoutRequests(t *testing.T) {
	p := control.Policy{Name: "orders"}
	for i := range maxUnread + 3 {
		p.Circuits = append(p.Circuits, control.Circuit{
			Policy: "orders", Backend: fmt.Sprintf("192.0.2.%d:80", i), OtherProtocols: map[string]uint64{"malformed-http2": 1},
		})
	}
	got := requests(&p)
	if len(got) != maxUnread+1 || got[maxUnread].Says != "none was seen to 3 more backends" {
		t.Errorf("got %d checks, the last %+v", len(got), got[len(got)-1])
	}
}
