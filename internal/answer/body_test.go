package answer

import "testing"

func TestDefaultBodyNamesTheReason(t *testing.T) {
	want := map[string]string{
		ReasonOpen: "circuit open", ReasonForcedOpen: "circuit open", ReasonHalfOpen: "circuit open",
		ReasonConnectionLimit: "connection limit", ReasonRequestLimit: "request limit", ReasonRateLimit: "rate limit",
	}
	for _, reason := range Reasons() {
		if got := (Spec{Status: 503}).For("orders", reason); got.Body != `{"error":"`+want[reason]+`"}` || got.Status != 503 {
			t.Errorf("%s: %+v", reason, got)
		}
		if got := (Spec{Body: "given"}).For("orders", reason); got.Body != "given" {
			t.Errorf("%s: a body that was given became %q", reason, got.Body)
		}
	}
}

func TestDefaultMessageNamesPolicyAndReason(t *testing.T) {
	want := map[string]string{
		ReasonOpen:            "cbagent: circuit open (policy orders, reason open)",
		ReasonForcedOpen:      "cbagent: circuit open (policy orders, reason forced-open)",
		ReasonHalfOpen:        "cbagent: circuit open (policy orders, reason half-open)",
		ReasonConnectionLimit: "cbagent: connection limit (policy orders, reason connection-limit)",
		ReasonRequestLimit:    "cbagent: request limit (policy orders, reason request-limit)",
		ReasonRateLimit:       "cbagent: rate limit (policy orders, reason rate-limit)",
	}
	for _, reason := range Reasons() {
		if got := (Spec{}).For("orders", reason); got.Message != want[reason] {
			t.Errorf("%s: %q", reason, got.Message)
		}
		if got := (Spec{Message: "given"}).For("orders", reason); got.Message != "given" {
			t.Errorf("%s: a message that was given became %q", reason, got.Message)
		}
	}
}

func TestCodeOfLimits(t *testing.T) {
	for _, reason := range Reasons() {
		for given, want := range map[int][2]int{14: {14, 8}, 9: {9, 9}, 0: {0, 0}, 8: {8, 8}} {
			w := want[0]
			switch reason {
			case ReasonConnectionLimit, ReasonRequestLimit, ReasonRateLimit:
				w = want[1]
			}
			if got := (Spec{GRPCStatus: given}).For("orders", reason).GRPCStatus; got != w {
				t.Errorf("%s, code %d: %d, expected %d", reason, given, got, w)
			}
		}
	}
}
