package replay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func run(t testing.TB, yaml, trace string) string {
	t.Helper()
	var out bytes.Buffer
	if err := Run(&out, load(t, yaml), strings.NewReader(trace), 1); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestOutputToTheByte(t *testing.T) {
	yaml := `policies:
- name: orders
  match: {addresses: ["10.0.0.7:8080"]}
  trip: {all: [{minCalls: 5}, {failureRate: 0.5}]}
`
	trace := `{"t":0.10,"backend":"10.0.0.7:8080","status":200,"latency_ms":12.5}
{"t":0.12,"backend":"10.0.0.7:8080","status":200,"latency_ms":12.6}
{"t":0.15,"backend":"10.0.0.7:8080","status":500,"count":2}
{"t":0.16,"backend":"10.0.0.7:8080","inspect":true}
{"t":0.20,"backend":"10.0.0.7:8080","outcome":"connect-refused"}
{"t":0.30,"backend":"10.0.0.7:8080","attempt":true}
{"t":30.2,"tick":true}
`
	want := `{"t":0.16,"policy":"orders","backend":"10.0.0.7:8080","event":"metric","state":"closed","total":4,"failures":2,"slow":0,"total_duration_ms":25.1,"failure_rate":0.5,"slow_rate":0,"avg_latency_ms":12.55,"openings":0,"ejections_overflow":0}
{"t":0.2,"policy":"orders","backend":"10.0.0.7:8080","event":"transition","from":"closed","to":"open","reason":"failureRate","value":0.6,"threshold":0.5,"step":1,"until":30.2}
{"t":0.3,"policy":"orders","backend":"10.0.0.7:8080","event":"attempt","admitted":false,"state":"open"}
{"t":30.2,"policy":"orders","backend":"10.0.0.7:8080","event":"transition","from":"open","to":"half-open","reason":"deadline","value":null,"threshold":null,"step":1,"until":null}
{"event":"summary","policy":"orders","backend":"10.0.0.7:8080","state":"half-open","total":0,"failures":0,"slow":0,"total_duration_ms":0,"failure_rate":null,"slow_rate":null,"avg_latency_ms":null,"openings":1,"ejections_overflow":0}
`
	if got := run(t, yaml, trace); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestOverflowToTheByte(t *testing.T) {
	yaml := "  trip: {consecutiveFailures: 2}\n  ejection: {minHealthy: 10}\n"
	want := `{"t":1.5,"policy":"p","backend":"192.0.2.1:80","event":"overflow","from":"closed","to":"open","reason":"consecutiveFailures","value":2,"threshold":2,"step":1,"until":null}
`
	if got := run(t, yaml, story("1.5 a FF")); !strings.HasPrefix(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestMonitor(t *testing.T) {
	got := run(t, "  mode: monitor\n", story("1 a ?FFFFF?F", "2 a ?"))
	for _, want := range []string{
		`{"t":1,"policy":"p","backend":"192.0.2.1:80","event":"attempt","admitted":true,"would_admit":true,"state":"closed"}`,
		`{"t":2,"policy":"p","backend":"192.0.2.1:80","event":"attempt","admitted":true,"would_admit":false,"state":"open"}`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("%s\nis not in\n%s", want, got)
		}
	}
}

func TestModesWithoutAMachine(t *testing.T) {
	check(t, "  mode: forced-open\n", story("1 a ?S", "100 a ?"), "1 a no forced-open", "100 a no forced-open")
	check(t, "  mode: disabled\n", story("1 a ?FFFFFFFFF?"), "1 a yes disabled", "1 a yes disabled")
}

func TestClassesOfOutcomes(t *testing.T) {
	opened := "0 a closed>open consecutiveFailures"
	for _, test := range []struct {
		name, yaml, letters string
		want                []string
	}{
		{"abandoned and unreachable are failures", "", "WuWuW", []string{opened}},
		{"aborted and raced do not touch a streak", "", "WWARWWARW", []string{opened}},
		{"in no list abandoned is ignored", "  outcome: {failure: [5xx]}\n", "FFFFWWWWWF", []string{opened}},
		{"unreachable counts as connect-timeout", "  outcome: {failure: [connect-timeout]}\n", "uuuuu", []string{opened}},
		{"unreachable is a success where neither is a failure", "  outcome: {failure: [5xx]}\n", "FFFFuFFFF", nil},
		{"raced that is named is a failure", "  outcome: {failure: [raced]}\n", "RRRRR", []string{opened}},
	} {
		t.Run(test.name, func(t *testing.T) { check(t, test.yaml, story("0 a "+test.letters), test.want...) })
	}
}

func TestProbesByClass(t *testing.T) {
	failed := []string{"31 a half-open>open probeFailed", "32 a no open", "32 a no open"}
	givenBack := []string{"32 a yes half-open", "32 a no half-open"}
	for letter, want := range map[string][]string{"W": failed, "u": failed, "A": givenBack, "R": givenBack} {
		before := []string{"0 a closed>open consecutiveFailures", "30 a open>half-open deadline", "30 a yes half-open"}
		check(t, "  halfOpen: {calls: 1}\n", story("0 a FFFFF", "30 a ?", "31 a "+letter, "32 a ??"), append(before, want...)...)
	}
}

func TestIdleHalfOpenGivesItsPlaceUp(t *testing.T) {
	const yaml = "  ejection: {maxPercent: 10}\n" // one of ten
	opened := []string{"0 a closed>open consecutiveFailures", "30 a open>half-open deadline"}
	full, opens := "b overflow consecutiveFailures", "60 b closed>open consecutiveFailures"
	for _, test := range []struct {
		name  string
		trace []string
		want  []string
	}{
		{"before its time", []string{"59.9 b FFFFF"}, []string{"59.9 " + full}},
		{"it comes by time alone", []string{"60 b FFFFF"}, []string{opens}},
		{"a failed probe then closes it", []string{"60 b FFFFF", "61 a F"}, []string{opens, "61 a half-open>closed ejectionLimit"}},
		{"a probe keeps it", []string{"45 a ?", "60 b FFFFF"}, []string{"45 a yes half-open", "60 " + full}},
	} {
		t.Run(test.name, func(t *testing.T) {
			check(t, yaml, story(append([]string{"0 a FFFFF"}, test.trace...)...), append(opened[:2:2], test.want...)...)
		})
	}
}

func TestScopePolicyIsOneCircuit(t *testing.T) {
	lines := replayed(t, "  scope: policy\n", story("1 a F", "1 b F", "1 c F", "1 d F", "1 e F", "2 f ?"))
	if got := strings.Join(brief(lines), ", "); got != "1 * closed>open consecutiveFailures, 2 * no open" {
		t.Error(got)
	}
	if last := lines[len(lines)-1]; last.Event != "summary" || last.Backend != "*" || len(lines) != 3 {
		t.Errorf("%d lines, last %+v", len(lines), last)
	}
}

func TestWhichAttemptAnOutcomeBelongsTo(t *testing.T) {
	line := func(text string) string { return strings.ReplaceAll(text, "B", `"backend":"192.0.2.1:80"`) + "\n" }
	opened := "0 a closed>open consecutiveFailures"
	halfOpen := "30 a open>half-open deadline"
	for _, test := range []struct {
		name  string
		trace string
		want  []string
	}{
		{"sent before the opening, without began: to the oldest open attempt",
			story("0 a ????????FFFFF", "31 a SFF", "32 a ?"),
			append(times(8, "0 a yes closed"), opened, halfOpen, "32 a yes half-open")},
		{"with none open it takes a permit of its own", story("0 a FFFFF", "31 a SSS"),
			[]string{opened, halfOpen, "31 a half-open>closed probesPassed"}},
		{"of three permits two are taken", story("0 a FFFFF", "31 a ??", "32 b S", "32 a ?", "33 a ?"),
			[]string{opened, halfOpen, "31 a yes half-open", "31 a yes half-open", "32 a yes half-open", "33 a no half-open"}},
		{"began names the attempt", story("0 a FFFFF", "31 a ?", "32 a ?") + line(`{"t":33,B,"status":500,"began":32}`),
			[]string{opened, halfOpen, "31 a yes half-open", "32 a yes half-open", "33 a half-open>open probeFailed"}},
		{"began without an attempt lies in an earlier generation",
			story("0 a FFFFF") + line(`{"t":31,B,"status":500,"began":29}`) + line(`{"t":31,B,"status":500,"began":0}`),
			[]string{opened, halfOpen}},
		{"began without an attempt in half-open has no permit", story("0 a FFFFF") + line(`{"t":31,B,"status":500,"began":30.5}`),
			[]string{opened, halfOpen}},
		{"began without an attempt in closed is judged", strings.Repeat(line(`{"t":1,B,"status":500,"began":0.5}`), 5),
			[]string{"1 a closed>open consecutiveFailures"}},
		{"while it is open nothing is judged", story("0 a FFFFF", "1 a SSSFFFF", "30 a ?"), []string{opened, halfOpen, "30 a yes half-open"}},
		{"began is exact", story("0 a FFFFF", "31.000000001 a ?") + line(`{"t":33,B,"status":500,"began":31}`) +
			line(`{"t":33,B,"status":500,"began":31.000000001}`),
			[]string{opened, halfOpen, "31.000000001 a yes half-open", "33 a half-open>open probeFailed"}},
		{"an attempt that was refused is none", story("0 a FFFFF", "29 a ?") + line(`{"t":31,B,"status":500,"began":29}`),
			[]string{opened, "29 a no open", halfOpen}},
		{"a probe that is late has failed", story("0 a FFFFF", "31 a ?", "61 a S"),
			[]string{opened, halfOpen, "31 a yes half-open", "61 a half-open>open probeTimeout"}},
	} {
		t.Run(test.name, func(t *testing.T) { check(t, "", test.trace, test.want...) })
	}
}

func times(n int, text string) (all []string) {
	for range n {
		all = append(all, text)
	}
	return all
}

func TestPendingAge(t *testing.T) {
	yaml := "  trip: {any: [{pendingAge: 2s}, {consecutiveFailures: 5}]}\n"
	lines := check(t, yaml, story("1 a ?", "2 a ?", "2.5 a S", "9 a ?", "9 b ?", "10 b S", "tick", "20 tick"),
		"1 a yes closed", "2 a yes closed", "4 a closed>open pendingAge", "9 a no open", "9 b yes closed")
	for _, o := range lines {
		if o.Reason == "pendingAge" && (number(o.Value) != "2" || number(o.Threshold) != "2") {
			t.Errorf("value %s, threshold %s", number(o.Value), number(o.Threshold))
		}
	}
	check(t, yaml, story("1 a ?", "3 a S"), "1 a yes closed", "3 a closed>open pendingAge") // a moment that equals it has reached it
	check(t, "  scope: policy\n"+yaml, story("1 a ?", "2 b ?", "2.5 a S", "9 a S"),
		"1 * yes closed", "2 * yes closed", "4 * closed>open pendingAge")
}

func TestTimeAloneActsInOrderOverAllPolicies(t *testing.T) {
	yaml := `policies:
- {name: p, match: {addresses: ["192.0.2.1:80"]}, open: {duration: 20s}}
- {name: q, match: {addresses: ["192.0.2.2:80"]}, open: {duration: 10s}, halfOpen: {calls: 0}}
`
	check(t, yaml, story("0 a FFFFF", "1 b FFFFF", "100 tick"), "0 a closed>open consecutiveFailures", "1 b closed>open consecutiveFailures",
		"11 b open>closed deadline", "20 a open>half-open deadline")
}

func TestBackendsThatNoAddressNames(t *testing.T) {
	dynamic := "policies:\n- {name: p, match: {cidrs: [\"192.0.2.0/24:80\"]}}\n"
	check(t, dynamic, story("0 z FFFFF"), "0 z closed>open consecutiveFailures")
	two := dynamic + "- {name: q, match: {addresses: [\"198.51.100.1:80\"]}}\n"
	for name, yaml := range map[string]string{"two policies": two, "addresses only": ""} {
		err := Run(new(bytes.Buffer), load(t, yaml), strings.NewReader(story("0 a !")+story("1 z F")), 1)
		if name == "two policies" {
			err = Run(new(bytes.Buffer), load(t, yaml), strings.NewReader("\n"+story("1 z F")), 1)
		}
		if err == nil || err.Error() != "line 2: backend: no policy matches 192.0.2.26:80" {
			t.Errorf("%s: %v", name, err)
		}
	}
	mapped := `{"t":1,"backend":"[::ffff:192.0.2.1]:80","attempt":true}` + "\n"
	check(t, "", mapped, "1 a yes closed")
}

func TestBadLines(t *testing.T) {
	for line, want := range map[string]string{
		`{"backend":"192.0.2.1:80","status":200}`:                     "t: is required",
		`{"t":-1,"tick":true}`:                                        "t: must be a number between 0 and 4000000000, got -1",
		`{"t":"1","tick":true}`:                                       `t: must be a number, got "1"`,
		`{"t":1e99,"tick":true}`:                                      "t: must be a number between 0 and 4000000000, got 1e99",
		`{"t":1,"tick":false}`:                                        "tick: must be true, got false",
		`{"t":1,"tick":true,"attempt":true,"backend":"192.0.2.1:80"}`: "attempt: must be alone",
		`{"t":1,"tick":true,"backend":"192.0.2.1:80"}`:                "backend: does not go with tick",
		`{"t":1}`:                                                                          "must have one of status, grpc, outcome, attempt, inspect and tick",
		`{"t":1,"attempt":true}`:                                                           "backend: is required",
		`{"t":1,"backend":7,"attempt":true}`:                                               "backend: must be IP:port, got 7",
		`{"t":1,"backend":"192.0.2.1","attempt":true}`:                                     "backend: no policy matches 192.0.2.1",
		`{"t":1,"backend":"192.0.2.1:80","status":99}`:                                     "status: must be between 100 and 999, got 99",
		`{"t":1,"backend":"192.0.2.1:80","status":200.5}`:                                  "status: must be between 100 and 999, got 200.5",
		`{"t":1,"backend":"192.0.2.1:80","grpc":17}`:                                       "grpc: must be between 0 and 16, got 17",
		`{"t":1,"backend":"192.0.2.1:80","grpc":-1}`:                                       "grpc: must be between 0 and 16, got -1",
		`{"t":1,"backend":"192.0.2.1:80","grpc":"14"}`:                                     `grpc: must be between 0 and 16, got "14"`,
		`{"t":1,"backend":"192.0.2.1:80","status":200,"grpc":0}`:                           "grpc: must be alone",
		`{"t":1,"backend":"192.0.2.1:80","outcome":"refused"}`:                             `outcome: must be one of connected, connect-refused`,
		`{"t":1,"backend":"192.0.2.1:80","outcome":"none"}`:                                `outcome: must be one of connected`,
		`{"t":1,"backend":"192.0.2.1:80","status":200,"outcome":"reset"}`:                  "outcome: must be alone",
		`{"t":1,"backend":"192.0.2.1:80","status":200,"latency_ms":-1}`:                    "latency_ms: must be a number between 0 and 86400000, got -1",
		`{"t":1,"backend":"192.0.2.1:80","status":200,"count":0}`:                          "count: must be a whole number between 1 and 10000000000, got 0",
		`{"t":1,"backend":"192.0.2.1:80","status":200,"client":"here"}`:                    `client: must be an IP address, got "here"`,
		`{"t":1,"backend":"192.0.2.1:80","status":200,"began":2}`:                          "began: must not be after t",
		`{"t":1,"backend":"192.0.2.1:80","attempt":true,"count":2}`:                        "count: goes with status, grpc or outcome only",
		`{"t":1,"t":1,"tick":true}`:                                                        "t: is there twice",
		`{"t":1,"tick":true,"latency":1}`:                                                  "latency: is not a key of a trace",
		`{"t":1,"tick":true} {}`:                                                           "must be one JSON object, got more after it",
		`[1]`:                                                                              "must be a JSON object, got [1]",
		`{"t":1,"tick":tru`:                                                                "is not JSON",
		`{"t":1`:                                                                           "is not JSON",
		`{"t":0.1,"tick":true}` + "\n" + `{"t":0.05,"backend":"192.0.2.1:80","status":20}`: "status: must be between 100 and 999, got 20",
	} {
		var out bytes.Buffer
		err := Run(&out, load(t, ""), strings.NewReader(line), 1)
		lines := strings.Count(line, "\n") + 1
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("line %d: %s", lines, want)) {
			t.Errorf("%s\n%v\nwant %s", line, err, want)
		}
	}
}

func TestAllBadLinesAtOnceButNotEndlessly(t *testing.T) {
	err := Run(new(bytes.Buffer), load(t, ""), strings.NewReader(strings.Repeat("{}\n", 50)), 1)
	var wrong *TraceError
	if !errors.As(err, &wrong) || len(wrong.Problems) != maxProblems || !wrong.More || wrong.Problems[19].Line != 10 {
		t.Fatalf("%+v", wrong)
	}
	if !strings.HasSuffix(err.Error(), "more lines are wrong") {
		t.Error(err)
	}
	long := `{"t":1,"tick":true}` + "\n" + `{"t":1,"tick":true` + strings.Repeat(" ", maxLine) + "}\n"
	if err := Run(new(bytes.Buffer), load(t, ""), strings.NewReader(long), 1); err == nil || err.Error() != "line 2: must be at most 1048576 bytes long" {
		t.Errorf("%v", err)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("the disk is gone") }
func (brokenReader) Write([]byte) (int, error) {
	return 0, errors.New("the disk is full")
}

func TestErrorsOfReaderAndWriter(t *testing.T) {
	if err := Run(new(bytes.Buffer), load(t, ""), brokenReader{}, 1); err == nil || err.Error() != "read the trace after line 0: the disk is gone" {
		t.Errorf("%v", err)
	}
	if err := Run(brokenReader{}, load(t, ""), strings.NewReader(story("1 a S")), 1); err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("%v", err)
	}
}

func TestTimesAreExact(t *testing.T) {
	for text, want := range map[string]string{
		"1795000000.123456789": "1795000000.123456789", "0.1": "0.1", "1e3": "1000", "12.5e-1": "1.25", "0": "0", "0.0000000004": "0",
		"0.0000000005": "0.000000001", "1e-200": "0", "3.9999999999": "4",
	} {
		n, err := parseScaled(text, 9, int64(maxTime))
		if got := string(appendSeconds(nil, n)); err != nil || got != want {
			t.Errorf("%s is read as %s, %v; want %s", text, got, err, want)
		}
	}
}

// drawTrace draws a trace of what may happen; equal lines stand together, so that counts can be split.
func drawTrace(t *rapid.T) (whole, split string) {
	var a, b strings.Builder
	at := 0
	sent := []int{}
	for range rapid.IntRange(1, 40).Draw(t, "lines") {
		at += rapid.SampledFrom([]int{0, 0, 10, 500, 12_000}).Draw(t, "wait")
		backend := fmt.Sprintf(`"backend":"192.0.2.%d:80"`, rapid.IntRange(1, 3).Draw(t, "backend"))
		head := fmt.Sprintf(`{"t":%d.%03d,%s`, at/1000, at%1000, backend)
		switch rapid.IntRange(0, 9).Draw(t, "what") {
		case 0, 1, 2:
			sent = append(sent, at)
			line := head + `,"attempt":true}` + "\n"
			a.WriteString(line)
			b.WriteString(line)
		case 3:
			line := head + `,"inspect":true}` + "\n"
			a.WriteString(line)
			b.WriteString(line)
		default:
			n := rapid.SampledFrom([]int{1, 1, 2, 7, 30}).Draw(t, "count")
			result := rapid.SampledFrom([]string{`"status":200`, `"status":200`, `"status":500`, `"status":503`, `"grpc":0`, `"grpc":14`, `"outcome":"h2-reset"`, `"outcome":"reset"`, `"outcome":"aborted"`, `"outcome":"abandoned"`}).Draw(t, "result")
			line := head + "," + result
			if rapid.Bool().Draw(t, "timed") {
				line += fmt.Sprintf(`,"latency_ms":%d`, rapid.SampledFrom([]int{1, 20, 900}).Draw(t, "latency"))
			}
			if len(sent) > 0 && rapid.IntRange(0, 2).Draw(t, "has began") == 0 {
				began := rapid.SampledFrom(sent).Draw(t, "began")
				line += fmt.Sprintf(`,"began":%d.%03d`, began/1000, began%1000)
			}
			line += fmt.Sprintf(`,"client":"198.51.100.%d"`, rapid.IntRange(1, 4).Draw(t, "client"))
			fmt.Fprintf(&a, "%s,\"count\":%d}\n", line, n)
			b.WriteString(strings.Repeat(line+"}\n", n))
		}
	}
	return a.String(), b.String()
}

var policiesToDraw = []string{
	"",
	"  open: {jitter: 0.5}\n",
	"  halfOpen: {ramp: {from: 0.2, to: 0.9, over: 10s}}\n  open: {duration: 5s}\n",
	"  ejection: {maxPercent: 10}\n  trip: {consecutiveFailures: 2}\n",
	"  scope: policy\n  trip: [{pendingAge: 3s}, {slowRate: {rate: 0.5, over: 10ms}}]\n",
	"  window: {type: count, size: 5}\n  trip: [{all: [{minCalls: 3}, {avgLatency: 15ms}]}, {minClients: 3}]\n  open: {duration: 1s}\n",
	"  mode: monitor\n  trip: {successRateOutlier: {stdev: 0.5, minBackends: 2, minCalls: 3}}\n  halfOpen: {calls: 2, tolerate: 1}\n",
	"  trip: [{failureCount: 3}, {all: [{state: half-open}, {pendingAge: 1s}]}]\n  halfOpen: {calls: 4, concurrent: 2, timeout: 2s}\n",
}

func TestReplayTwiceGivesTheSameBytesAndCountsAreManyLines(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		yaml := rapid.SampledFrom(policiesToDraw).Draw(rt, "policy")
		whole, split := drawTrace(rt)
		first := run(t, yaml, whole)
		if second := run(t, yaml, whole); first != second {
			rt.Fatalf("twice:\n%s\n%s", first, second)
		}
		if lines := run(t, yaml, split); first != lines {
			rt.Fatalf("%s\n%s\nwith counts:\n%s\nline by line:\n%s", yaml, whole, first, lines)
		}
	})
}

func TestSeedDecidesJitter(t *testing.T) {
	policies, trace := load(t, "  open: {jitter: 0.5}\n"), story("0 a FFFFF")
	outputs := map[string]bool{}
	for seed := range uint64(5) {
		var out bytes.Buffer
		if err := Run(&out, policies, strings.NewReader(trace), seed); err != nil {
			t.Fatal(err)
		}
		outputs[out.String()] = true
	}
	if len(outputs) != 5 {
		t.Errorf("%d different outputs of 5 seeds", len(outputs))
	}
}

func FuzzRun(f *testing.F) {
	f.Add(story("0.5 a SFLX?!Ac", "1 b FFFFF?", "40 tick", "41 b ?SS"), byte(0))
	f.Add(`{"t":1e2,"backend":"[2001:db8::7]:8080","status":503,"latency_ms":1.5,"count":9999999999,"client":"2001:db8::1","began":0.0}`, byte(3))
	f.Add(strings.Repeat(`{"t":3,"backend":"192.0.2.1:80","outcome":"timeout","count":4294967297}`+"\n", 3), byte(5))
	f.Add(`{"t":1,"backend":"192.0.2.1:80","grpc":14,"latency_ms":3}`+"\n", byte(0))
	f.Add("{}\n[]\nnull\n{\"t\":", byte(1))
	all := make([][]Policy, len(policiesToDraw))
	for i, yaml := range policiesToDraw {
		all[i] = load(f, yaml)
	}
	f.Fuzz(func(t *testing.T, trace string, which byte) {
		if len(trace) > 4096 || strings.Count(trace, "count") > 20 {
			return
		}
		policies := all[int(which)%len(all)]
		if policies[0].Settings.Ejection.MaxPercent < 100 && strings.Contains(trace, "count") {
			return // every overflow is a line of output, of which ten billion are too many for a test
		}
		var out bytes.Buffer
		err := Run(&out, policies, strings.NewReader(trace), 1)
		if err != nil && !strings.Contains(err.Error(), "line ") {
			t.Fatalf("an error without a line number: %v", err)
		}
		for line := range strings.Lines(out.String()) {
			if !json.Valid([]byte(line)) || !strings.HasSuffix(line, "}\n") {
				t.Fatalf("%q is not a line of JSON", line)
			}
		}
	})
}
