package loader

import (
	"testing"

	"github.com/cilium/ebpf"

	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// The reset of the XDP program is a packet of this host: nothing that a router or the client's network wrote stays in it.
func TestHeaderOfXDPReset(t *testing.T) {
	r := newRig(t)
	prog := r.program("xdp")
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			r := newRig(t)
			r.put(f.backend, tables.PolicySettings{Direction: tables.Inbound, Reject: tables.Reset, Protocol: tables.TCP}, ledger.Verdict{Kind: ledger.ForcedOpen, Generation: 1})
			frame := segment{src: f.client, dst: f.backend, seq: 1000, flags: syn, srcMAC: clientMAC, dstMAC: nodeMAC}.bytes()
			hops := 14 + 8
			if f.name == "IPv6" {
				hops = 14 + 7
			}
			frame[hops] = 3 // the programs trust no checksum of a packet that comes in
			opts := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+256)}
			ret, err := prog.Run(&opts)
			if err != nil || ret != xdpTX {
				t.Fatalf("verdict %d, %v, want %d", ret, err, xdpTX)
			}
			if got := opts.DataOut[hops]; got != 64 {
				t.Errorf("hop limit %d, want 64", got)
			}
			if _, err := parseSegment(opts.DataOut, false); err != nil {
				t.Error(err)
			}
		})
	}
}
