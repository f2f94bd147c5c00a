package unreachable

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/loader"
	"github.com/cbagent/cbagent/internal/neighbour"
	"github.com/cbagent/cbagent/internal/tables"
)

const second = int64(time.Second)

// watcher notes what it is given.
type watcher struct {
	addresses []map[netip.Addr]bool
	holds     []map[neighbour.Key]time.Time
	verified  [][]netip.Addr
	dead      map[netip.Addr]neighbour.Key
}

func (w *watcher) SetAddresses(all map[netip.Addr]bool)     { w.addresses = append(w.addresses, all) }
func (w *watcher) SetHolds(all map[neighbour.Key]time.Time) { w.holds = append(w.holds, all) }
func (w *watcher) Verify(all []netip.Addr)                  { w.verified = append(w.verified, all) }
func (w *watcher) Dead() map[netip.Addr]neighbour.Key       { return w.dead }

// recorder notes what is recorded.
type recorder struct {
	at  []int64
	all [][]tables.Unreachable
	err error
}

func (r *recorder) RecordUnreachable(at int64, all []tables.Unreachable) (loader.UnreachableResult, error) {
	r.at, r.all = append(r.at, at), append(r.all, all)
	return loader.UnreachableResult{}, r.err
}

// node is a Reactor and what it works on.
type node struct {
	*Reactor
	watcher  watcher
	recorder recorder
	circuits []Circuit
	silent   map[int]bool // links on which the programs do not answer
	log      bytes.Buffer
}

func newNode(hold bool, circuits ...Circuit) *node {
	n := &node{circuits: circuits, silent: map[int]bool{}}
	n.Reactor = New(&n.watcher, &n.recorder, func(yield func(Circuit) bool) {
		for _, c := range n.circuits {
			if !yield(c) {
				return
			}
		}
	}, func(link int) bool { return !n.silent[link] }, slog.New(slog.NewTextHandler(&n.log, nil)), hold)
	return n
}

func backends(addrs ...string) map[netip.AddrPort]discovery.Backend {
	all := map[netip.AddrPort]discovery.Backend{}
	for _, a := range addrs {
		at := netip.MustParseAddrPort(a)
		all[at] = discovery.Backend{Addr: at}
	}
	return all
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// A failure is recorded at the next turn, for all backends behind the neighbour in both directions, with the time of the last
// failure; a neighbour that answers again records nothing.
func TestFailuresAreRecorded(t *testing.T) {
	n := newNode(true,
		Circuit{ID: 1, Direction: tables.Outbound, Backends: backends("192.0.2.1:80", "192.0.2.1:81", "192.0.2.9:80")},
		Circuit{ID: 2, Direction: tables.Inbound, Backends: backends("192.0.2.2:80")},
	)
	n.Turn(1)
	n.Apply(neighbour.Event{Failed: true, First: true, Behind: []netip.Addr{addr("192.0.2.1")}}, 5)
	n.Apply(neighbour.Event{Failed: true, Behind: []netip.Addr{addr("192.0.2.2"), addr("192.0.2.3")}}, 6)
	n.Apply(neighbour.Event{First: true, Behind: []netip.Addr{addr("192.0.2.9")}}, 7)
	n.recorder.err = errors.New("the map is full")
	n.Turn(8)
	n.Turn(9)
	if !slices.Equal(n.recorder.at, []int64{6}) {
		t.Fatalf("recorded at %v, want once, at 6", n.recorder.at)
	}
	var got []string
	for _, u := range n.recorder.all[0] {
		got = append(got, fmt.Sprintf("%d %d %s", u.Circuit, u.Backend.Direction, u.Backend.Addr))
	}
	slices.Sort(got)
	want := []string{
		fmt.Sprintf("1 %d 192.0.2.1:80", tables.Outbound), fmt.Sprintf("1 %d 192.0.2.1:81", tables.Outbound),
		fmt.Sprintf("2 %d 192.0.2.2:80", tables.Inbound),
	}
	if !slices.Equal(got, want) {
		t.Errorf("recorded %q, want %q", got, want)
	}
	for _, text := range []string{"neighbour does not answer", "count=2", "neighbour answers again", "the map is full"} {
		if !strings.Contains(n.log.String(), text) {
			t.Errorf("the log does not say %q: %s", text, &n.log)
		}
	}
}

// What is behind a neighbour may be no backend any more.
func TestFailureOfNoBackend(t *testing.T) {
	n := newNode(true, Circuit{ID: 1, Backends: backends("192.0.2.1:80")})
	n.Apply(neighbour.Event{Failed: true, First: true, Behind: []netip.Addr{addr("192.0.2.7")}}, 5)
	n.Turn(6)
	if len(n.recorder.at) != 0 || n.log.Len() != 0 {
		t.Errorf("recorded %v, logged %s; want nothing", n.recorder.at, &n.log)
	}
}

// A log line names some of the backends and counts all.
func TestManyBackends(t *testing.T) {
	var all []string
	var behind []netip.Addr
	for i := range 3 * maxNamed {
		all = append(all, fmt.Sprintf("192.0.2.%d:80", i))
		behind = append(behind, addr(fmt.Sprintf("192.0.2.%d", i)))
	}
	n := newNode(true, Circuit{ID: 1, Backends: backends(all...)})
	n.Apply(neighbour.Event{Failed: true, First: true, Behind: behind}, 5)
	if named := strings.Count(n.log.String(), ":80"); named != maxNamed || !strings.Contains(n.log.String(), "count=24") {
		t.Errorf("%d are named: %s", named, &n.log)
	}
}

// The watcher gets the addresses once a second at most, and only when they have changed.
func TestAddresses(t *testing.T) {
	n := newNode(true, Circuit{ID: 1, Backends: backends("192.0.2.1:80", "192.0.2.1:81")}, Circuit{ID: 2, Backends: backends("192.0.2.2:80")})
	for _, s := range []struct {
		now  int64
		left int // circuits
		want int // times
	}{{1, 2, 1}, {second, 1, 1}, {second + 1, 1, 2}, {2*second + 1, 1, 2}} {
		n.circuits = n.circuits[:s.left]
		n.Turn(s.now)
		if len(n.watcher.addresses) != s.want {
			t.Fatalf("at %d: given %d times, want %d", s.now, len(n.watcher.addresses), s.want)
		}
	}
	if first, last := n.watcher.addresses[0], n.watcher.addresses[1]; len(first) != 2 || !maps.Equal(last, map[netip.Addr]bool{addr("192.0.2.1"): true}) {
		t.Errorf("given %v, then %v", first, last)
	}
}

// The entries of dead neighbours are held while their circuits reject, until shortly before they probe.
func TestHolds(t *testing.T) {
	const now = 100 * second
	key := neighbour.Key{Link: 2, Addr: addr("192.0.2.1")}
	early := int64(releaseEarly)
	open := func(until int64) ledger.Verdict {
		return ledger.Verdict{Kind: ledger.Open, Generation: 2, Until: until}
	}
	circuit := func(v ledger.Verdict) Circuit {
		return Circuit{Answers: true, Verdict: v, Backends: backends("192.0.2.1:80")}
	}
	drops := circuit(open(now + 10*second))
	drops.Answers = false
	monitor := open(now + 10*second)
	monitor.Monitor = true
	for name, tc := range map[string]struct {
		circuits []Circuit
		silent   bool
		want     int64 // -1: not held
	}{
		"closed":                                  {[]Circuit{circuit(ledger.Verdict{Kind: ledger.Closed})}, false, -1},
		"open":                                    {[]Circuit{circuit(open(now + 10*second))}, false, now + 10*second - early},
		"open, just before":                       {[]Circuit{circuit(open(now + early + 1))}, false, now + 1},
		"open, probing soon":                      {[]Circuit{circuit(open(now + early))}, false, -1},
		"open, deadline passed":                   {[]Circuit{circuit(open(now - 1))}, false, -1},
		"forced open":                             {[]Circuit{circuit(ledger.Verdict{Kind: ledger.ForcedOpen})}, false, 0},
		"forced open for a time":                  {[]Circuit{circuit(ledger.Verdict{Kind: ledger.ForcedOpen, Until: now + 5*second})}, false, now + 5*second - early},
		"forced open, about to end":               {[]Circuit{circuit(ledger.Verdict{Kind: ledger.ForcedOpen, Until: now + early})}, false, -1},
		"monitor":                                 {[]Circuit{circuit(monitor)}, false, -1},
		"the policy drops":                        {[]Circuit{drops}, false, -1},
		"the programs do not answer on the link":  {[]Circuit{circuit(open(now + 10*second))}, true, -1},
		"the earlier of two":                      {[]Circuit{circuit(open(now + 20*second)), circuit(open(now + 10*second))}, false, now + 10*second - early},
		"the earlier of two, first":               {[]Circuit{circuit(open(now + 10*second)), circuit(open(now + 20*second))}, false, now + 10*second - early},
		"an end before none":                      {[]Circuit{circuit(ledger.Verdict{Kind: ledger.ForcedOpen}), circuit(open(now + 10*second))}, false, now + 10*second - early},
		"another circuit of the neighbour probes": {[]Circuit{circuit(open(now + 10*second)), circuit(open(now))}, false, -1},
		"another neighbour":                       {[]Circuit{{Answers: true, Verdict: open(now + 10*second), Backends: backends("192.0.2.2:80")}}, false, -1},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(true, tc.circuits...)
			n.silent[2] = tc.silent
			got := n.wantedHolds(map[netip.Addr]neighbour.Key{addr("192.0.2.1"): key}, now)
			want := map[neighbour.Key]int64{key: tc.want}
			if tc.want == -1 {
				clear(want)
			}
			if !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// The watcher gets the holds when they change, also when none is left, and never if none are to be held.
func TestHoldsAreSet(t *testing.T) {
	key := neighbour.Key{Link: 2, Addr: addr("192.0.2.1")}
	forced := Circuit{Answers: true, Verdict: ledger.Verdict{Kind: ledger.ForcedOpen}, Backends: backends("192.0.2.1:80")}
	timed := forced
	timed.Verdict.Until = 100 * second
	for hold, want := range map[bool]int{true: 3, false: 0} {
		n := newNode(hold, forced)
		n.Turn(1)
		n.watcher.dead = map[netip.Addr]neighbour.Key{key.Addr: key}
		n.Turn(2)
		n.Turn(3)
		n.circuits = []Circuit{timed}
		before := time.Now()
		n.Turn(4)
		n.watcher.dead = nil
		n.Turn(5)
		n.Turn(6)
		if len(n.watcher.holds) != want {
			t.Fatalf("hold %v: set %d times, want %d", hold, len(n.watcher.holds), want)
		}
		if !hold {
			continue
		}
		if until, ok := n.watcher.holds[0][key]; !ok || !until.IsZero() {
			t.Errorf("forced open: held until %v, %v; want no end", until, ok)
		}
		if left := n.watcher.holds[1][key].Sub(before); left < 99*time.Second || left > 101*time.Second {
			t.Errorf("forced open for a time: held for %s", left)
		}
		if len(n.watcher.holds[2]) != 0 {
			t.Errorf("the neighbour answers: held %v", n.watcher.holds[2])
		}
	}
}

// The neighbours of an open circuit are verified once for each opening, some seconds before it probes.
func TestVerify(t *testing.T) {
	const deadline = 100 * second
	early := int64(verifyEarly)
	circuit := func(generation uint32, v ledger.Verdict) []Circuit {
		v.Generation = generation
		return []Circuit{{ID: 1, Verdict: v, Backends: backends("192.0.2.1:80")}}
	}
	open := ledger.Verdict{Kind: ledger.Open, Until: deadline}
	again := ledger.Verdict{Kind: ledger.Open, Until: deadline + 50*second}
	monitor := ledger.Verdict{Kind: ledger.Open, Until: deadline, Monitor: true}
	n := newNode(true)
	for _, s := range []struct {
		name     string
		now      int64
		circuits []Circuit
		want     int
	}{
		{"closed", deadline - 10*second, circuit(1, ledger.Verdict{Kind: ledger.Closed}), 0},
		{"monitor", deadline - 9*second + 1, circuit(1, monitor), 0},
		{"too early", deadline - early - second, circuit(2, open), 0},
		{"in time", deadline - early, circuit(2, open), 1},
		{"the same opening", deadline - early + second, circuit(2, open), 1},
		{"the next opening, too early", deadline + 40*second, circuit(4, again), 1},
		{"the next opening", deadline + 50*second - early, circuit(4, again), 2},
	} {
		n.circuits = s.circuits
		n.Turn(s.now)
		if len(n.watcher.verified) != s.want {
			t.Fatalf("%s: verified %d times, want %d", s.name, len(n.watcher.verified), s.want)
		}
	}
	if got := n.watcher.verified[0]; !slices.Equal(got, []netip.Addr{addr("192.0.2.1")}) {
		t.Errorf("verified %v", got)
	}
}

func TestInterfaceName(t *testing.T) {
	if got := interfaceName(1 << 30); got != "1073741824" {
		t.Errorf("an interface that is gone is named %q", got)
	}
	if got := interfaceName(1); got != "lo" {
		t.Errorf("the first interface is named %q", got)
	}
}
