package metrics

import (
	"bytes"
	"flag"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"

	"github.com/cbagent/cbagent/internal/policy"
	"github.com/cbagent/cbagent/internal/tables"
	"github.com/cbagent/cbagent/internal/view"
	"github.com/cbagent/cbagent/internal/view/viewtest"
)

var update = flag.Bool("update", false, "write the files that the tests compare with")

func text(t *testing.T, g prometheus.Gatherer) string {
	t.Helper()
	// The library's own merging refuses what is inconsistent, such as one series twice.
	families, err := prometheus.Gatherers{g}.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func compare(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s is not what comes out (go test ./internal/metrics -update writes it anew) (-want +got):\n%s", path, diff)
	}
}

var goversion = regexp.MustCompile(`goversion="[^"]*"`)

func TestWholeSet(t *testing.T) {
	s := viewtest.Incident(t)
	g := New(func() *view.Snapshot { return s }, 100, false)
	compare(t, "testdata/metrics.prom", goversion.ReplaceAllString(text(t, g), `goversion="go"`))
}

func TestEverySeriesIsInTheFixture(t *testing.T) {
	s := viewtest.Incident(t)
	names := map[string]bool{}
	for _, circuits := range []int{100, 2} {
		families, err := New(func() *view.Snapshot { return s }, circuits, false).Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			names[f.GetName()] = true
		}
	}
	for _, d := range Descriptions() {
		if !names[d.Name] {
			t.Errorf("%s is described, and no test sees it", d.Name)
		}
		delete(names, d.Name)
	}
	if len(names) > 0 {
		t.Errorf("not described: %v", names)
	}
}

func TestNamesAreGood(t *testing.T) {
	s := viewtest.Incident(t)
	problems, err := testutil.GatherAndLint(New(func() *view.Snapshot { return s }, 100, false))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestEverySeriesOfACircuitHasADirection(t *testing.T) {
	s := viewtest.Incident(t)
	families, err := New(func() *view.Snapshot { return s }, 100, false).Gather()
	if err != nil {
		t.Fatal(err)
	}
	of := map[string]string{}
	for _, d := range Descriptions() {
		of[d.Name] = d.Each
	}
	for _, f := range families {
		want := map[string][]string{"circuit": {"policy", "direction", "backend"}, "policy": {"policy", "direction"}}[of[f.GetName()]]
		for _, m := range f.GetMetric() {
			var has []string
			for _, l := range m.GetLabel() {
				has = append(has, l.GetName())
			}
			if !slices.IsSorted(has) {
				t.Errorf("%s: labels %v are not sorted", f.GetName(), has)
			}
			for _, name := range want {
				if !slices.Contains(has, name) {
					t.Errorf("%s has no label %s", f.GetName(), name)
				}
			}
		}
	}
}

func TestTooManyCircuitsAreSummed(t *testing.T) {
	s := viewtest.Incident(t)
	compare(t, "testdata/summed.prom", goversion.ReplaceAllString(text(t, New(func() *view.Snapshot { return s }, 2, false)), `goversion="go"`))
}

func TestProcessIsThere(t *testing.T) {
	s := viewtest.Incident(t)
	got := text(t, New(func() *view.Snapshot { return s }, 100, true))
	for _, name := range []string{"process_cpu_seconds_total", "go_goroutines", "cbagent_ready 1"} {
		if !strings.Contains(got, name) {
			t.Errorf("no %s", name)
		}
	}
}

func TestAvailable(t *testing.T) {
	r := &policy.RateLimit{Limit: 10, Period: time.Second, Burst: 3}
	const interval = int64(100 * time.Millisecond)
	for _, c := range []struct {
		ahead int64
		want  int
	}{
		{-interval, 3}, {0, 3}, {1, 2}, {interval, 2}, {interval + 1, 1}, {2 * interval, 1}, {2*interval + 1, 0}, {9 * interval, 0},
	} {
		if got := Available(r, 1000+c.ahead, 1000); got != c.want {
			t.Errorf("next permission due in %s: %d available, want %d", time.Duration(c.ahead), got, c.want)
		}
	}
}

// From the first call on there is a series for each outcome that an alert may ask for.
func TestOutcomesFromTheFirstCallOn(t *testing.T) {
	both := []string{"abandoned", "connect-refused", "connect-timeout", "reset", "timeout", "unreachable"}
	for protocol, want := range map[policy.Protocol][]string{
		policy.HTTP: append([]string{"2xx", "3xx", "4xx", "5xx"}, both...),
		policy.GRPC: append([]string{
			"grpc-data-loss", "grpc-deadline-exceeded", "grpc-internal", "grpc-ok", "grpc-unavailable", "grpc-unknown", "h2-refused", "h2-reset",
		}, both...),
		policy.TCP: {"connect-refused", "connect-timeout", "connected", "unreachable"},
	} {
		s := viewtest.Incident(t)
		p := *s.Policies[0].Policy
		p.Protocol = protocol
		s.Policies = []view.Policy{{Policy: &p, Circuits: []view.Circuit{{Name: "192.0.2.1:80", Totals: tables.Totals{Admitted: 1}}}}}
		var got []string
		for _, m := range regexp.MustCompile(`cbagent_outcomes_total\{.*outcome="([^"]*)".*\} 0`).FindAllStringSubmatch(text(t, New(func() *view.Snapshot { return s }, 100, false)), -1) {
			got = append(got, m[1])
		}
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", protocol, diff)
		}
	}
}
