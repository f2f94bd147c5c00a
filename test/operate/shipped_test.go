package operate

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/cbagent/cbagent/internal/metrics"
)

const (
	rulesFile     = "../../deploy/prometheus/cbagent.rules.yaml"
	rulesTest     = "../../deploy/prometheus/cbagent.rules.test.yaml"
	dashboardFile = "../../deploy/grafana/cbagent.json"
	runbookFile   = "../../docs/runbook.md"
)

// rule is an alert.
type rule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func rules(t *testing.T) []rule {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Load(read(t, rulesFile), &file); err != nil {
		t.Fatal(err)
	}
	var all []rule
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("no rules")
	}
	return all
}

// query is one query of the dashboard.
type query struct{ panel, expr string }

func dashboard(t *testing.T) []query {
	t.Helper()
	var d struct {
		Panels []struct {
			Title   string `json:"title"`
			Type    string `json:"type"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
		Annotations struct {
			List []struct{ Name, Expr string } `json:"list"`
		} `json:"annotations"`
	}
	if err := json.Unmarshal(read(t, dashboardFile), &d); err != nil {
		t.Fatal(err)
	}
	var all []query
	for _, p := range d.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q asks nothing", p.Title)
		}
		for _, target := range p.Targets {
			all = append(all, query{p.Title, target.Expr})
		}
	}
	for _, a := range d.Annotations.List {
		all = append(all, query{a.Name, a.Expr})
	}
	return all
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

var metricName = regexp.MustCompile(`cbagent_[a-z_]+`)

// known reports whether the agent has the metric.
func known(name string) bool {
	for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
		base := strings.TrimSuffix(name, suffix)
		if slices.ContainsFunc(metrics.Descriptions(), func(d *metrics.Description) bool {
			return d.Name == base && (suffix == "" || d.Type.String() == "HISTOGRAM")
		}) {
			return true
		}
	}
	return false
}

func TestQueriesNameWhatThereIs(t *testing.T) {
	for _, r := range rules(t) {
		for _, name := range metricName.FindAllString(r.Expr, -1) {
			if !known(name) {
				t.Errorf("alert %s asks for %s, which the agent does not have", r.Alert, name)
			}
		}
	}
	for _, q := range dashboard(t) {
		for _, name := range metricName.FindAllString(q.expr, -1) {
			if !known(name) {
				t.Errorf("panel %q asks for %s, which the agent does not have", q.panel, name)
			}
		}
	}
}

func TestEveryAlertHasARunbookEntry(t *testing.T) {
	runbook := string(read(t, runbookFile))
	tested := string(read(t, rulesTest))
	entries := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^### (Cbagent\w+)$`).FindAllStringSubmatch(runbook, -1) {
		entries[m[1]] = true
	}
	for _, r := range rules(t) {
		if !entries[r.Alert] {
			t.Errorf("%s has no entry in the runbook", r.Alert)
		}
		delete(entries, r.Alert)
		if want := "docs/runbook.md#" + strings.ToLower(r.Alert); r.Annotations["runbook"] != want {
			t.Errorf("%s points to %q, want %q", r.Alert, r.Annotations["runbook"], want)
		}
		if r.Annotations["summary"] == "" || r.Labels["severity"] == "" {
			t.Errorf("%s lacks a summary or a severity", r.Alert)
		}
		if !strings.Contains(tested, "alertname: "+r.Alert+"\n") {
			t.Errorf("%s is not tested to fire", r.Alert)
		}
	}
	for name := range entries {
		t.Errorf("the runbook has an entry %s that is no alert", name)
	}
}
