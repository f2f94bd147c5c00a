package replay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/cbagent/cbagent/internal/policy"
)

// load makes policies of YAML that is indented by spaces; a policy without match gets ten addresses, 192.0.2.1 to .10.
func load(t testing.TB, yaml string) []Policy {
	t.Helper()
	if !strings.Contains(yaml, "policies:") {
		yaml = "policies:\n- name: p\n" + yaml
	}
	if !strings.Contains(yaml, "match:") {
		var addresses []string
		for i := range 10 {
			addresses = append(addresses, fmt.Sprintf("%q", fmt.Sprintf("192.0.2.%d:80", i+1)))
		}
		yaml += "  match: {addresses: [" + strings.Join(addresses, ", ") + "]}\n"
	}
	set, err := policy.Parse("test.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	var policies []Policy
	for _, p := range set.Policies {
		policies = append(policies, Policy{
			Name: p.Name, Settings: p.Breaker, Addresses: p.Match.Addresses,
			Dynamic: len(p.Match.CIDRs)+len(p.Match.Hosts)+len(p.Match.Services) > 0,
		})
	}
	return policies
}

// output is one line of output; what is absent is nil.
type output struct {
	T            *float64
	Policy       string
	Backend      string
	Event        string
	From, To     string
	Reason       string
	Value        *float64
	Threshold    *float64
	Step         int
	Until        *float64
	Admitted     *bool
	WouldAdmit   *bool `json:"would_admit"`
	State        string
	Total        int
	Failures     int
	Slow         int
	Duration     float64  `json:"total_duration_ms"`
	FailureRate  *float64 `json:"failure_rate"`
	SlowRate     *float64 `json:"slow_rate"`
	Latency      *float64 `json:"avg_latency_ms"`
	Openings     int
	OverflowsSum int `json:"ejections_overflow"`
}

func replayed(t testing.TB, yaml, trace string) []output {
	t.Helper()
	var out bytes.Buffer
	if err := Run(&out, load(t, yaml), strings.NewReader(trace), 1); err != nil {
		t.Fatal(err)
	}
	var lines []output
	for text := range strings.Lines(out.String()) {
		d := json.NewDecoder(strings.NewReader(text))
		d.DisallowUnknownFields()
		var o output
		if err := d.Decode(&o); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		lines = append(lines, o)
	}
	return lines
}

// brief is a line of output in a form that is easy to write down: "0.2 a closed>open failureRate", the last number of
// the backend's address as a letter; summaries and metrics are left out.
func brief(lines []output) []string {
	var all []string
	for _, o := range lines {
		text := ""
		switch o.Event {
		case "transition":
			text = fmt.Sprintf("%v %s %s>%s %s", *o.T, letter(o.Backend), o.From, o.To, o.Reason)
		case "overflow":
			text = fmt.Sprintf("%v %s overflow %s", *o.T, letter(o.Backend), o.Reason)
		case "attempt":
			verdict := "no"
			if *o.Admitted {
				verdict = "yes"
			}
			text = fmt.Sprintf("%v %s %s %s", *o.T, letter(o.Backend), verdict, o.State)
		default:
			continue
		}
		all = append(all, text)
	}
	return all
}

func letter(backend string) string {
	var n int
	if _, err := fmt.Sscanf(backend, "192.0.2.%d:80", &n); err != nil {
		return backend
	}
	return string(rune('a' + n - 1))
}

// story writes a trace. Each word is "TIME BACKEND LETTERS": S success, F failure, L slow success, X slow failure, A
// aborted, W abandoned, R raced, u unreachable, c connect-refused, ? attempt, ! inspect. Latencies are 100 ms, 3 s when slow.
func story(words ...string) string {
	var b strings.Builder
	for _, word := range words {
		at, rest, _ := strings.Cut(word, " ")
		name, letters, _ := strings.Cut(rest, " ")
		if name == "tick" {
			fmt.Fprintf(&b, `{"t":%s,"tick":true}`+"\n", at)
			continue
		}
		for _, l := range letters {
			what := map[rune]string{
				'S': `"status":200,"latency_ms":100`, 'F': `"status":500,"latency_ms":100`,
				'L': `"status":200,"latency_ms":3000`, 'X': `"status":500,"latency_ms":3000`,
				'A': `"outcome":"aborted"`, 'W': `"outcome":"abandoned"`, 'R': `"outcome":"raced"`, 'u': `"outcome":"unreachable"`, 'c': `"outcome":"connect-refused"`,
				'?': `"attempt":true`, '!': `"inspect":true`,
			}[l]
			fmt.Fprintf(&b, `{"t":%s,"backend":"192.0.2.%d:80",%s}`+"\n", at, name[0]-'a'+1, what)
		}
	}
	return b.String()
}

func check(t *testing.T, yaml, trace string, want ...string) []output {
	t.Helper()
	lines := replayed(t, yaml, trace)
	if got := strings.Join(brief(lines), "\n"); got != strings.Join(want, "\n") {
		t.Fatalf("got:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
	return lines
}

func number(p *float64) string {
	if p == nil {
		return "-"
	}
	return fmt.Sprint(*p)
}

// metrics returns one word for each inspection.
func metrics(lines []output, word func(output) string) string {
	var all []string
	for _, o := range lines {
		if o.Event == "metric" {
			all = append(all, word(o))
		}
	}
	return strings.Join(all, " ")
}
