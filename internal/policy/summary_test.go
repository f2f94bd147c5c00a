package policy

import (
	"strings"
	"testing"
)

func TestSummaryHasEjectionLimits(t *testing.T) {
	for keys, want := range map[string]string{
		"ejection: {maxPercent: 12.5}":                "; ejects at most 12.5%; ",
		"ejection: {minHealthy: 2}":                   "; leaves at least 2; ",
		"ejection: {maxPercent: 50, minHealthy: 1}":   "; ejects at most 50%, leaves at least 1; ",
		"ejection: {maxPercent: 100, minHealthy: 0}":  "",
		"scope: policy\nejection: {maxPercent: 50}":   "",
		"scope: backend\nejection: {maxPercent: 100}": "",
	} {
		set, err := parseOne(keys)
		if err != nil {
			t.Fatal(err)
		}
		got := set.Policies[0].Summary()
		if want == "" && (strings.Contains(got, "eject") || strings.Contains(got, "leaves")) || !strings.Contains(got, want) {
			t.Errorf("%s: %s, want ... %s", keys, got, want)
		}
	}
}
