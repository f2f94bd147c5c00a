package containment

import (
	"testing"
	"time"
)

// made is a trial in which 7 requests reach the backend, 10 ms apart, and then one each second. It fails for 2.5 s.
func made() trial {
	failed := time.Unix(1000, 0)
	t := trial{failed: failed, healed: failed.Add(2500 * time.Millisecond)}
	at := func(ms int) time.Time { return failed.Add(time.Duration(ms) * time.Millisecond) }
	for i := range 7 {
		t.arrivals = append(t.arrivals, at(10+10*i))
		t.calls = append(t.calls, call{began: at(9 + 10*i), ended: at(11 + 10*i)})
	}
	t.arrivals = append(t.arrivals, at(1070), at(2070))
	// While the fifth failure reached the backend another was on its way.
	t.calls = append(t.calls, call{began: at(45), ended: at(60)})
	for ms := 100; ms < 3000; ms += 10 {
		t.calls = append(t.calls, call{began: at(ms), ended: at(ms + 1), rejected: true})
	}
	for ms := 3000; ms < 3500; ms += 10 {
		t.calls = append(t.calls, call{began: at(ms), ended: at(ms + 1), good: true})
	}
	return t
}

func TestValues(t *testing.T) {
	v := made().values()
	for name, want := range map[string]float64{
		"leaked": 7, "contained": 1, "contain_ms": 70, "in_flight": 2, "over": 7 - 4 - 2, "recover_ms": 500, "hurt": 8,
		"probes_rps": 2 / 2.43, "sent": 8 + 240,
	} {
		if got := v[name]; got < want-1e-6 || got > want+1e-6 {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func TestNeverContained(t *testing.T) {
	one := made()
	one.arrivals = nil
	for ms := 10; ms < 2500; ms += 100 {
		one.arrivals = append(one.arrivals, one.failed.Add(time.Duration(ms)*time.Millisecond))
	}
	v := one.values()
	if v["contained"] != 0 || v["leaked"] != 25 {
		t.Errorf("got %v", v)
	}
	if _, ok := v["probes_rps"]; ok {
		t.Error("probes were counted where nothing was contained")
	}
}

// The tap counts a request once however often it is sent.
func TestTap(t *testing.T) {
	packet := func(port byte, seq byte, flags byte, payload int) []byte {
		p := make([]byte, 40+payload)
		p[0], p[3], p[9] = 0x45, byte(40+payload), 6
		copy(p[12:], []byte{192, 0, 2, 1})
		tcp := p[20:]
		tcp[1], tcp[2], tcp[3], tcp[7], tcp[12], tcp[13] = port, 0x1f, 0x90, seq, 5<<4, flags
		return p
	}
	tap := &tap{port: 8080, seen: map[tapped]bool{}}
	for _, p := range [][]byte{
		packet(1, 1, 0x02, 0), packet(1, 1, 0x02, 0), // a SYN, twice
		packet(2, 1, 0x02, 0),  // another client's
		packet(3, 1, 0x10, 0),  // an ACK
		packet(3, 1, 0x18, 30), // data
		{0x45, 0, 0},           // nothing
	} {
		tap.take(p, time.Now())
	}
	if n := len(tap.arrivals()); n != 3 {
		t.Errorf("%d arrivals, want 3", n)
	}
}
