package report

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cbagent/cbagent/bench/row"
)

// made returns rows of an overhead part in which cbagent adds a tenth of what HAProxy adds, less or more by slack.
func made(slack float64) Set {
	f := &row.File{Part: "overhead"}
	for round := range 20 {
		noise := float64(round % 5)
		for peer, p50 := range map[string]float64{"direct": 10, "haproxy": 110, "cbagent": 20 + slack} {
			f.Add(row.Row{Case: "keep-alive/1", Peer: peer, Round: round, Values: map[string]float64{"p50_us": p50 + noise}})
			f.Add(row.Row{Case: "keep-alive/16", Peer: peer, Round: round, Values: map[string]float64{"rate_rps": 1000 - noise*p50/10}})
		}
	}
	return Set{"overhead": f}
}

func verdicts(s Set) map[string]Judgement {
	all := map[string]Judgement{}
	for _, j := range Judge(s) {
		all[j.Name] = j
	}
	return all
}

func TestJudgeAddedLatency(t *testing.T) {
	const name = "added p50, keep-alive, 1 connection"
	for slack, want := range map[float64]Verdict{-1: Met, 0: Met, 1: Missed} {
		j := verdicts(made(slack))[name]
		if j.Verdict != want || math.Abs(j.Value-(0.1+slack/100)) > 1e-9 {
			t.Errorf("slack %v: %v %v, want %v", slack, j.Value, j.Verdict, want)
		}
	}
	if j := verdicts(Set{})[name]; j.Verdict != NotMeasured || j.Why == "" {
		t.Errorf("without rows it is %v, because %q", j.Verdict, j.Why)
	}
}

// A machine on which everything takes longer judges the same.
func TestKernelGoalsAreRatios(t *testing.T) {
	for _, slower := range []float64{1, 4} {
		f := &row.File{Part: "kernel"}
		for round := range 10 {
			for peer, ns := range map[string]float64{
				"reference/IPv4": 100, "watched, pure ACK/IPv4": 150, "watched, pure ACK, ingress/IPv4": 170,
				"watched, request and response/IPv4": 490, "watched, request and response in HTTP2/IPv4": 1100, "watched, gRPC call/IPv4": 1300,
			} {
				f.Add(row.Row{Case: "Packet", Peer: peer, Round: round, Values: map[string]float64{"ns": slower * ns}})
			}
		}
		all := verdicts(Set{"kernel": f})
		for name, want := range map[string]Verdict{
			"ns of a pure ACK to a backend": Met, "ns of a pure ACK from a backend": Missed,
			"ns of a request and its response, beyond two empty programs":           Met,
			"ns of a request and its response in HTTP/2, beyond two empty programs": Met,
			"ns of a gRPC call, beyond two empty programs":                          Missed,
		} {
			if j := all[name]; j.Verdict != want {
				t.Errorf("%s: %v %s, want %s", name, j.Value, j.Verdict, want)
			}
		}
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		atLeast   bool
		low, high float64
		want      Verdict
	}{
		{false, 0.5, 0.9, Met}, {false, 0.5, 1, Met}, {false, 0.9, 1.1, NotResolved}, {false, 1.1, 1.2, Missed},
		{true, 1.1, 1.2, Met}, {true, 1, 1.2, Met}, {true, 0.9, 1.1, NotResolved}, {true, 0.5, 0.9, Missed},
		{false, math.NaN(), math.NaN(), NotResolved},
	} {
		g := Goal{Limit: 1, AtLeast: c.atLeast}
		if got := g.judge(row.Estimate{Low: c.low, High: c.high, Rounds: 20}); got != c.want {
			t.Errorf("%+v: got %s", c, got)
		}
	}
}

func TestWorstLooksAtEveryRound(t *testing.T) {
	s := Set{"containment": {Part: "containment", Rows: []row.Row{
		{Case: "a", Peer: "p", Round: 0, Values: map[string]float64{"over": -1}},
		{Case: "a", Peer: "p", Round: 1, Values: map[string]float64{"over": 3}},
		{Case: "b", Peer: "p", Round: 0, Values: map[string]float64{"over": 1}},
	}}}
	e, err := s.worst(pick{"containment", "a", "p", "over"}, pick{"containment", "b", "p", "over"})
	if err != nil || e.Value != 3 || e.Rounds != 3 {
		t.Errorf("got %+v, %v", e, err)
	}
}

func TestShort(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 5: "5", 0.01234: "0.0123", 0.1234: "0.123", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 1234567: "1,234,567", -1500: "-1,500",
	} {
		if got := short(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}

func TestWriteAndRefresh(t *testing.T) {
	folder := t.TempDir()
	s := made(0)
	if err := Write(s, folder); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(folder, "report.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| added p50, keep-alive", "Not measured: allocations per outcome: breaker was not measured", "| keep-alive/1 | haproxy | 112 (x ", "overhead-latency.svg"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the report does not say %q:\n%s", want, text)
		}
	}
	if svg, err := os.ReadFile(filepath.Join(folder, "overhead-latency.svg")); err != nil || !bytes.Contains(svg, []byte("<svg")) {
		t.Errorf("the plot is no SVG: %v", err)
	}
	page := filepath.Join(folder, "page.md")
	const around = "before\n<!-- machine -->\n<!-- end machine -->\n<!-- goals -->\nold\n<!-- end goals -->\nafter\n"
	if err := os.WriteFile(page, []byte(around), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Refresh(s, page); err != nil {
			t.Fatal(err)
		}
	}
	text, err = os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	got := string(text)
	if strings.Contains(got, "old") || !strings.HasPrefix(got, "before\n") || !strings.HasSuffix(got, "after\n") || strings.Count(got, "added p50") != 1 ||
		strings.Contains(got, "allocations") {
		t.Errorf("got %s", got)
	}
}
