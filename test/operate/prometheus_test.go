//go:build monitoring

package operate

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// The rules are right, and fire when they should and not otherwise.
func TestRules(t *testing.T) {
	for _, args := range [][]string{{"check", "rules", filepath.Base(rulesFile)}, {"test", "rules", filepath.Base(rulesTest)}} {
		cmd := exec.CommandContext(soon(t), "promtool", args...)
		cmd.Dir = filepath.Dir(rulesFile)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}

// prometheus starts one that scrapes an agent and evaluates the shipped rules, and returns its address.
func prometheus(t *testing.T, target string) string {
	t.Helper()
	dir := t.TempDir()
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`global: {scrape_interval: 200ms, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs:
- job_name: cbagent
  static_configs: [{targets: [%q]}]
`, rules, strings.TrimPrefix(target, "http://"))
	path := filepath.Join(dir, "prometheus.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("prometheus", "--config.file", path, "--storage.tsdb.path", filepath.Join(dir, "data"),
		"--web.listen-address", address, "--log.level", "warn")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	eventually(t, "prometheus is ready", func() bool {
		resp, err := http.Get("http://" + address + "/-/ready")
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		return resp.StatusCode == http.StatusOK
	})
	return "http://" + address
}

// ask returns how many series a query gives, or the error that Prometheus has.
func ask(ctx context.Context, prometheus, expr string) (series int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, prometheus+"/api/v1/query?"+url.Values{"query": {expr}}.Encode(), nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Status string
		Error  string
		Data   struct{ Result []json.RawMessage }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return 0, err
	}
	if answer.Status != "success" {
		return 0, fmt.Errorf("%s", answer.Error)
	}
	return len(answer.Data.Result), nil
}

// Every query of the dashboard and of the alerts is asked of a real Prometheus that scrapes a real agent in an incident:
// those of the dashboard find something.
func TestQueriesFindWhatTheyAskFor(t *testing.T) {
	s := newStage(t, 3, []string{
		"trip: [{consecutiveFailures: 5}]", "open: {duration: 200ms, backoff: none}", "outcome: {slow: 1us}", "halfOpen: {calls: 1}",
		"limits: {maxConnections: 50, maxRequests: 50}", "rateLimit: {limit: 1000000, burst: 1000000}",
	})
	address := prometheus(t, s.reach())
	if _, stderr, code := s.run("disable", "orders/"+s.targets[2].String(), "--reason", "test"); code != 0 {
		t.Fatal(stderr)
	}
	s.servers[1].Set(testserver.Behaviour{Status: 503})
	round := func() {
		for i := range 3 {
			s.load(i, 20, 2)
		}
	}
	round()
	expr := strings.NewReplacer("$__rate_interval", "1m", "$policy", ".*", "$direction", ".*", "$backend", ".*", "$instance", ".*")
	// Nothing of the kind happens in this incident.
	quiet := map[string]bool{
		`sum by (reason) (rate(cbagent_would_reject_total`: true, `sum by (instance) (rate(cbagent_ring_events_lost_total`: true,
	}
	for _, q := range dashboard(t) {
		text := expr.Replace(q.expr)
		if strings.Contains(text, "$") {
			t.Errorf("panel %q uses a variable that is not known here: %s", q.panel, text)
			continue
		}
		silent := false
		for prefix := range quiet {
			silent = silent || strings.HasPrefix(text, prefix)
		}
		eventually(t, fmt.Sprintf("panel %q finds something: %s", q.panel, text), func() bool {
			round()
			n, err := ask(soon(t), address, text)
			if err != nil {
				t.Fatalf("panel %q: %s: %v", q.panel, text, err)
			}
			return n > 0 || silent
		})
	}
	for _, r := range rules(t) {
		if _, err := ask(soon(t), address, r.Expr); err != nil {
			t.Errorf("alert %s: %v", r.Alert, err)
		}
	}
}
