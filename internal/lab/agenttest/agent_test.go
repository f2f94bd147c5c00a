package agenttest

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestJudge(t *testing.T) {
	const full = `{"level":"ERROR","msg":"no room for another circuit"}`
	certain := announcement{line: regexp.MustCompile("no room for .* circuit"), certain: true}
	possible := announcement{line: certain.line}
	for name, c := range map[string]struct {
		counts    ringCounts
		warnings  []string
		announced []announcement
		want      []string
	}{
		"nothing":                      {},
		"lost and recovered":           {counts: ringCounts{lost: 3, recovered: 2}},
		"recovered, and none was lost": {counts: ringCounts{recovered: 2}, want: []string{"the agent recovered 2 events although the ring lost none"}},
		"announced":                    {warnings: []string{full, full}, announced: []announcement{certain}},
		"possible, and came":           {warnings: []string{full}, announced: []announcement{possible}},
		"possible, and did not":        {announced: []announcement{possible}},
		"announced in vain":            {announced: []announcement{certain}, want: []string{`the agent did not log "no room for .* circuit"`}},
		"unannounced":                  {warnings: []string{full}, want: []string{"the agent logged, unannounced: " + full}},
		"another one": {
			warnings: []string{full, "{}"}, announced: []announcement{certain}, want: []string{"the agent logged, unannounced: {}"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, judge(c.counts, c.warnings, c.announced)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseCounts(t *testing.T) {
	const text = `# HELP cbagent_ring_events_lost_total Events.
# TYPE cbagent_ring_events_lost_total counter
cbagent_ring_events_lost_total 7
cbagent_ring_events_recovered_total 1.2e+06
cbagent_ready 1
`
	got, err := parseCounts(strings.NewReader(text))
	if want := (ringCounts{lost: 7, recovered: 1.2e6}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if _, err := parseCounts(strings.NewReader("cbagent_ring_events_lost_total 7\n")); err == nil {
		t.Error("a series is missing, and no error says so")
	}
}

func TestMetricsAddress(t *testing.T) {
	for want, command := range map[string][]string{
		"127.0.0.1:9464": {"cbagent", "run"},
		"127.0.0.1:1":    {"cbagent", "run", "--metrics-address", "127.0.0.1:1"},
		"":               {"cbagent", "run", "--metrics-address", "", "--clsact"},
	} {
		if got := metricsAddress(command); got != want {
			t.Errorf("%v: got %q, want %q", command, got, want)
		}
	}
}
