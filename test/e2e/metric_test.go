package e2e

import (
	"bufio"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// metric returns the sum of an agent's series of that name that have all the labels (each written as key="value"), and
// how many there are.
func metric(t *testing.T, node *netlab.Namespace, name string, labels ...string) (sum float64, series int) {
	t.Helper()
	client := node.HTTPClient()
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://127.0.0.1:9464/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("the agent's metrics: %s", resp.Status)
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		key, value, ok := strings.Cut(lines.Text(), " ")
		key, rest, _ := strings.Cut(key, "{")
		if !ok || key != name {
			continue
		}
		has := true
		for _, l := range labels {
			has = has && strings.Contains(","+strings.TrimSuffix(rest, "}")+",", ","+l+",")
		}
		if !has {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("metric %q: %v", lines.Text(), err)
		}
		sum += v
		series++
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return sum, series
}
