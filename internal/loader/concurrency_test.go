package loader

import (
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// pin keeps the calling goroutine on one CPU until the returned function is called.
func pin(cpu int) func() {
	runtime.LockOSThread()
	var old, set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &old); err != nil {
		return runtime.UnlockOSThread
	}
	set.Set(cpu % runtime.NumCPU())
	_ = unix.SchedSetaffinity(0, &set)
	return func() {
		_ = unix.SchedSetaffinity(0, &old)
		runtime.UnlockOSThread()
	}
}

// frames of connections from many ports, each with the same flags and payload.
func (r *rig) frames(f family, n int, s segment) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		s.src, s.dst = netip.AddrPortFrom(f.client.Addr(), uint16(20000+i)), f.backend
		s.srcMAC, s.dstMAC = clientMAC, nodeMAC
		all[i] = s.bytes()
	}
	return all
}

// Ten times as many SYNs as there is room for, from two CPUs at once: exactly as many get in.
func TestLimitsAreExactUnderABurst(t *testing.T) {
	const n = 5
	for _, tc := range []struct {
		name    string
		policy  tables.PolicySettings
		verdict func() ledger.Verdict
	}{
		{"permits", tables.PolicySettings{Reject: tables.Reset}, func() ledger.Verdict { return halfOpen(n, n) }},
		{"permits at once", tables.PolicySettings{Reject: tables.Reset}, func() ledger.Verdict { return halfOpen(3*n, n) }},
		{"maxConnections", tables.PolicySettings{Reject: tables.Reset, MaxConnections: n}, func() ledger.Verdict { return ledger.Verdict{Kind: ledger.Closed} }},
		{"rateLimit", tables.PolicySettings{
			Reject: tables.Reset, Protocol: tables.TCP, RateLimit: 1, RatePeriod: time.Hour, RateBurst: n,
		}, func() ledger.Verdict { return ledger.Verdict{Kind: ledger.Closed} }},
		{"permits and maxConnections", tables.PolicySettings{Reject: tables.Reset, MaxConnections: n}, func() ledger.Verdict { return halfOpen(3*n, 3*n) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			syns := r.frames(families[0], 10*n, segment{seq: 1, flags: syn, options: mssOption(1460)})
			for round := range 40 {
				r.put(backendV4, tc.policy, tc.verdict())
				var passed, rejected atomic.Int64
				onTwoCPUs(len(syns)/2, func(w, i int) {
					ret, _, err := r.run(r.d.objs.Egress, syns[2*i+w], skbContext{})
					switch {
					case err != nil:
						t.Error(err)
					case ret == verdictNext:
						passed.Add(1)
					case ret == verdictRedirect:
						rejected.Add(1)
					}
				})
				if passed.Load() != n || rejected.Load() != 9*n {
					t.Fatalf("round %d: %d were let in, %d rejected; expected %d and %d", round, passed.Load(), rejected.Load(), n, 9*n)
				}
				if got := r.d.Totals(1).Connections; got != n {
					t.Fatalf("round %d: %d connections, expected %d", round, got, n)
				}
				r.settle()
			}
		})
	}
}

// Connections that come and go on two CPUs leave nothing behind, and are never more than allowed.
func TestConnectionsThatComeAndGo(t *testing.T) {
	const max = 7
	r := newRig(t)
	r.put(backendV4, tables.PolicySettings{Reject: tables.Reset, MaxConnections: max, MaxRequests: 4}, ledger.Verdict{Kind: ledger.Closed})
	f := families[0]
	syns := r.frames(f, 40, segment{seq: 1, flags: syn, options: mssOption(1460)})
	asks := r.frames(f, 40, segment{seq: 2, ack: 5001, flags: psh | ack, payload: []byte(get)})
	ends := r.frames(f, 40, segment{seq: 2, ack: 5001, flags: rst | ack})
	var worst atomic.Uint64
	onTwoCPUs(3000, func(w, i int) {
		p := 2*(i%20) + w
		for _, frame := range [][]byte{syns[p], asks[p], ends[(p+2*(i/20))%40]} {
			if _, _, err := r.run(r.d.objs.Egress, frame, skbContext{}); err != nil {
				t.Error(err)
			}
			// An attempt that lost a race counts for a moment, one on each CPU.
			if n := r.d.Totals(1).Connections; n > worst.Load() {
				worst.Store(n)
			}
		}
	})
	if worst.Load() > max+2 {
		t.Errorf("up to %d connections were counted at once", worst.Load())
	}
	for _, frame := range ends {
		if _, _, err := r.run(r.d.objs.Egress, frame, skbContext{}); err != nil {
			t.Error(err)
		}
	}
	total := r.d.Totals(1)
	if total.Connections != 0 || total.InFlight != 0 || r.d.NodeCounts().Flows != 0 {
		t.Errorf("left behind: %d connections, %d requests, %d flows", total.Connections, total.InFlight, r.d.NodeCounts().Flows)
	}
	var ended uint64
	for _, n := range total.Outcomes {
		ended += n
	}
	if total.Admitted == 0 || ended < total.Admitted {
		t.Errorf("%d requests were admitted, %d outcomes", total.Admitted, ended)
	}
}

// Two CPUs that end the same request: it has one outcome.
func TestARequestEndsOnce(t *testing.T) {
	r := newRig(t)
	r.put(backendV4, tables.PolicySettings{}, ledger.Verdict{Kind: ledger.Closed})
	f := families[0]
	const rounds = 300
	for round := range rounds {
		c := r.dial(f.client, f.backend)
		c.client = netipPort(c.client, uint16(20000+round))
		c.open().ask(get)
		back := segment{src: c.backend, dst: c.client, seq: c.ack, ack: c.seq, flags: rst | ack}.bytes()
		out := segment{src: c.client, dst: c.backend, seq: c.seq, ack: c.ack, flags: rst | ack}.bytes()
		onTwoCPUs(1, func(w, _ int) {
			var err error
			if w == 0 {
				_, _, err = r.run(r.d.objs.Ingress, back, skbContext{})
			} else {
				_, _, err = r.run(r.d.objs.Egress, out, skbContext{})
			}
			if err != nil {
				t.Error(err)
			}
		})
		r.counted()
	}
	total := r.d.Totals(1)
	var ended uint64
	for _, n := range total.Outcomes {
		ended += n
	}
	if ended != rounds || total.InFlight != 0 || total.Connections != 0 {
		t.Errorf("%d outcomes of %d requests; %d in flight, %d connections", ended, rounds, total.InFlight, total.Connections)
	}
}
