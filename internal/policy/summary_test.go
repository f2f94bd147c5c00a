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

func TestSummaryHasTheAnswer(t *testing.T) {
	for keys, want := range map[string]string{
		"reject: {status: 429}":                   "; answers 429",
		"reject: {grpcStatus: 9}":                 "; answers 503",
		"protocol: grpc":                          "; answers grpc-unavailable",
		"protocol: grpc\nreject: {grpcStatus: 9}": "; answers grpc-failed-precondition",
		"protocol: grpc\nreject: {with: drop}":    "; drops clients",
		"protocol: tcp":                           "; resets clients",
		"protocol: grpc\nrateLimit: {limit: 3}":   "; answers grpc-unavailable; at most 3 in 1s",
		"protocol: grpc\nreject: {status: 429}":   "; answers grpc-unavailable",
	} {
		if got := mustOne(t, keys).Summary(); !strings.HasSuffix(got, want) {
			t.Errorf("%s: %s, want ... %s", keys, got, want)
		}
	}
}
