package loader

import (
	"net/netip"
	"testing"

	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// A reset or a SYN-ACK that no socket sends is matched by the destination that the client dialled. The end-to-end tests
// cover packets of sockets.
func TestPacketsWithoutASocketBehindNAT(t *testing.T) {
	for _, f := range []struct {
		family
		vip string
	}{
		{families[0], "203.0.113.1:80"}, {families[0], "203.0.113.1:8080"}, {families[1], "[2001:db8:3::1]:80"},
	} {
		vip := netip.MustParseAddrPort(f.vip)
		// The client's socket knows another address of itself, too.
		own := netip.AddrPortFrom(f.client.Addr(), f.client.Port()+1)
		passes := "foreign"
		if vip.Port() == f.backend.Port() {
			passes = "untracked"
		}
		for _, tc := range []struct {
			name    string
			flags   uint8
			off     bool
			dialled bool
			before  func(c *conn)
			reason  string
			want    want
		}{
			{"no backend is on this host", rst | ack, true, true, func(c *conn) { c.send(syn, "") }, passes, want{Connections: 1}},
			{"no client dialled it", rst | ack, false, false, func(c *conn) { c.send(syn, "") }, passes, want{Connections: 1}},
			{"its connection is over", rst | ack, false, true, func(*conn) {}, passes, want{}},
			{"rejected", rst | ack, false, true, func(c *conn) { c.send(syn, "") }, "flow", outcomes(0, 1, 1, "connect-refused")},
			{"reset", rst | ack, false, true, func(c *conn) { c.open().ask(get) }, "flow", outcomes(1, 1, 1, "reset")},
			{"SYN-ACK", syn | ack, false, true, func(c *conn) { c.send(syn, "") }, "flow", want{Connections: 1}},
			{"SYN-ACK that no client dialled", syn | ack, false, false, func(c *conn) { c.send(syn, "") }, passes, want{Connections: 1}},
			{"late acknowledgement", ack, false, true, func(c *conn) { c.send(syn, "") }, passes, want{Connections: 1}},
		} {
			t.Run(f.vip+"/"+tc.name, func(t *testing.T) {
				r := newRig(t)
				r.put(f.backend, tables.PolicySettings{}, ledger.Verdict{})
				r.d.SetNATOnLo(!tc.off)
				if tc.dialled {
					if err := r.d.objs.NatFlows.Put(flowKey(own, vip), flowKey(f.client, f.backend)); err != nil {
						t.Fatal(err)
					}
				}
				c := r.dial(f.client, f.backend)
				c.out, c.in, c.hookOut, c.hookIn = r.program("loopback"), r.program("loopback"), "loopback", "loopback"
				tc.before(c)
				res := c.put(c.in, segment{src: vip, dst: own, seq: c.ack, ack: c.seq, flags: tc.flags}, skbContext{})
				c.passed(res, "loopback", tc.reason)
				r.wantTotals(tc.want)
			})
		}
	}
}
