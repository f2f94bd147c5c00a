package demo

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/agentproc"
)

var start = time.Unix(1_700_000_000, 0)

// at returns a moment in milliseconds after the start.
func at(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

// good returns a recording of a run in which all went well: each phase takes 100 ms, b2 fails after 10.
func good() *recording {
	rec := &recording{phase: Closed}
	for i := range 3 {
		rec.backends = append(rec.backends, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 21, byte(i + 1), 2}), 8080))
	}
	for p := range rec.began {
		rec.began[p] = at(p * 100)
	}
	b2 := rec.backends[failing].String()
	rec.transitions = []agentproc.Transition{
		{Backend: b2, From: "closed", To: "open", At: at(200)},
		{Backend: b2, From: "open", To: "half-open", At: at(400)},
		{Backend: b2, From: "half-open", To: "closed", At: at(500)},
	}
	for ms := 5; ms < 600; ms += 10 {
		for i := range rec.backends {
			s := sample{began: at(ms - 1), at: at(ms), backend: i, outcome: "200", latency: time.Millisecond}
			switch {
			case i == failing && ms > 100 && ms < 200:
				s.outcome = "500"
				rec.failures = append(rec.failures, at(ms))
			case i == failing && ms > 200 && ms < 400:
				s.outcome, s.kernel, s.latency = "503", true, time.Duration(ms)*time.Microsecond
			}
			rec.samples = append(rec.samples, s)
		}
	}
	return rec
}

func TestReportOfAGoodRun(t *testing.T) {
	report, err := good().report(failing, 2)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"ok":true,"opened_after_ms":95,"leaked_requests":10,"answered_by_kernel":20,"answer_p50_us":295,` +
		`"other_backends_failed":0,"closed_after_ms":200,"phases":[` +
		`{"name":"healthy","requests":30,"by_status":{"200":30}},` +
		`{"name":"failing","requests":30,"by_status":{"200":20,"500":10}},` +
		`{"name":"open","requests":30,"by_status":{"200":20,"503":10}},` +
		`{"name":"healing","requests":30,"by_status":{"200":20,"503":10}},` +
		`{"name":"half-open","requests":30,"by_status":{"200":30}},` +
		`{"name":"closed","requests":30,"by_status":{"200":30}}]}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var text bytes.Buffer
	if err := report.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"the breaker did its job\n",
		"b2 began to fail; its circuit opened after  95.0 ms\n",
		"phase      requests  200  500  503\n",
		"failing    30        20   10   0\n",
	} {
		if !strings.Contains(text.String(), line) {
			t.Errorf("no %q in\n%s", line, &text)
		}
	}
}

func TestReportOfABadRun(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*recording)
		says  string
	}{
		"neighbour failed": {func(r *recording) { r.samples[0].outcome = "reset" }, "1 requests to the other backends failed"},
		"neighbour opened": {func(r *recording) {
			r.transitions = append(r.transitions, agentproc.Transition{Backend: r.backends[2].String(), From: "closed", To: "open", At: at(550)})
		}, "10.21.3.2:8080, which was well"},
		"leaks after the opening": {func(r *recording) {
			r.failures = append(r.failures, at(210), at(220), at(230))
		}, "3 requests reached the failing backend after its circuit had opened, at most 2"},
		"client reset": {func(r *recording) {
			r.samples = append(r.samples, sample{began: at(240), at: at(250), backend: failing, outcome: "reset"})
		}, "ended with reset in phase open"},
		"still rejected": {func(r *recording) {
			r.samples = append(r.samples, sample{began: at(510), at: at(590), backend: failing, outcome: "503", kernel: true})
		}, "ended with 503 in phase closed"},
		"failing though healed": {func(r *recording) {
			r.samples = append(r.samples, sample{began: at(410), at: at(420), backend: failing, outcome: "500"})
		}, "ended with 500 in phase half-open"},
		"a 503 of the backend": {func(r *recording) {
			r.samples = append(r.samples, sample{began: at(240), at: at(250), backend: failing, outcome: "503"})
		}, "ended with 503 in phase open"},
		"no answers": {func(r *recording) {
			for i := range r.samples {
				r.samples[i].kernel = false
			}
		}, "the kernel answered no request"},
		"reopened": {func(r *recording) {
			r.transitions = append(r.transitions, agentproc.Transition{Backend: r.backends[failing].String(), To: "open", At: at(550)})
		}, "was [closed open half-open closed open]"},
		"never closed": {func(r *recording) { r.began[Closed] = time.Time{} }, `"closed" was never reached`},
	} {
		t.Run(name, func(t *testing.T) {
			rec := good()
			c.spoil(rec)
			report, err := rec.report(failing, 2)
			if report.OK || err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("ok %v, %v; want an error that says %q", report.OK, err, c.says)
			}
		})
	}
}

// A busy machine delays clients, not the breaker.
func TestReportOfABusyMachine(t *testing.T) {
	rec := good()
	rec.samples = append(rec.samples,
		// Connected while the circuit was open, asked when it had closed.
		sample{began: at(490), at: at(590), backend: failing, outcome: "503", kernel: true, latency: time.Millisecond},
		// Answered by the backend before it was healed, read much later.
		sample{began: at(190), at: at(590), backend: failing, outcome: "500", latency: 400 * time.Millisecond},
	)
	if report, err := rec.report(failing, 2); err != nil || !report.OK {
		t.Errorf("ok %v, %v; want no fault", report.OK, err)
	}
}

func TestProbesAreNoLeaks(t *testing.T) {
	rec := good()
	rec.failures = append(rec.failures, at(410), at(490), at(500))
	if got := len(rec.leaks(failing, at(200))); got != 1 {
		t.Errorf("%d leaks, want 1: two of three were probes", got)
	}
}
