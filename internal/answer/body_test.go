package answer

import "testing"

func TestDefaultBodyNamesTheReason(t *testing.T) {
	want := map[string]string{
		ReasonOpen: "circuit open", ReasonForcedOpen: "circuit open", ReasonHalfOpen: "circuit open",
		ReasonConnectionLimit: "connection limit", ReasonRequestLimit: "request limit", ReasonRateLimit: "rate limit",
	}
	for _, reason := range Reasons() {
		if got := (Spec{Status: 503}).For(reason); got.Body != `{"error":"`+want[reason]+`"}` || got.Status != 503 {
			t.Errorf("%s: %+v", reason, got)
		}
		if got := (Spec{Body: "given"}).For(reason); got.Body != "given" {
			t.Errorf("%s: a body that was given became %q", reason, got.Body)
		}
	}
}
