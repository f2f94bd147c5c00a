package replay

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// shelf returns the policy of that name in the documentation.
func shelf(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(page), "```yaml\npolicies:\n- name: shelf\n")
	text, _, _ = strings.Cut(text, "```")
	if !found {
		t.Fatal("no policy shelf in docs/policy.md")
	}
	return "policies:\n- name: p\n" + text
}

// opens replays 100 calls to each of five backends, the last of each a failure if it has any, and returns the letters of those
// whose circuits opened.
func opens(t *testing.T, yaml string, failures [5]int) string {
	t.Helper()
	trace, last := "", ""
	for i, n := range failures {
		line := func(at, status, count int) string {
			if count < 1 {
				return ""
			}
			return fmt.Sprintf(`{"t":%d,"backend":"192.0.2.%d:80","status":%d,"count":%d}`+"\n", at, i+1, status, count)
		}
		trace += line(1, 200, 100-n) + line(1, 500, n-1)
		last += line(2, 500, min(n, 1))
	}
	opened := ""
	for _, o := range replayed(t, yaml, trace+last) {
		if o.Event == "transition" && o.To == "open" {
			opened += strings.TrimSuffix(strings.TrimPrefix(o.Backend, "192.0.2."), ":80")
		}
	}
	return opened
}

// A success rate that is only compared has no level: a slight difference opens, and backends that fail together do not. The
// policy in the documentation has both.
func TestOutlierWithALevel(t *testing.T) {
	alone := "  trip: {successRateOutlier: {}}\n"
	for _, c := range []struct {
		failures          [5]int
		alone, documented string
	}{
		{[5]int{0, 0, 0, 0, 0}, "", ""},
		{[5]int{0, 0, 0, 0, 1}, "5", ""},      // 99 % beside 100 %
		{[5]int{0, 0, 0, 0, 20}, "5", "5"},    // a real outlier
		{[5]int{0, 0, 0, 100, 100}, "", "45"}, // the threshold is negative
		{[5]int{60, 60, 60, 60, 60}, "", "12345"},
		{[5]int{8, 8, 8, 8, 8}, "", ""},
	} {
		if got := opens(t, alone, c.failures); got != c.alone {
			t.Errorf("%v, successRateOutlier alone: opened %q, want %q", c.failures, got, c.alone)
		}
		if got := opens(t, shelf(t), c.failures); got != c.documented {
			t.Errorf("%v, as documented: opened %q, want %q", c.failures, got, c.documented)
		}
	}
}
