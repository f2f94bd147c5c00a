package breaker

import (
	"strings"
	"testing"
)

func TestResultsHaveAName(t *testing.T) {
	seen := map[string]bool{}
	for r := ResultConnected; r <= MaxResult; r++ {
		if r >= resultNamed && r < 100 {
			continue
		}
		name := r.String()
		if got, err := ParseResult(name); got != r || err != nil || seen[name] {
			t.Errorf("%d is %q, which is %d: %v", r, name, got, err)
		}
		seen[name] = true
	}
	for _, bad := range []string{"", "none", "99", "1000", "1016", "0200", "grpc", "grpc-", "grpc-14", "grpc-UNAVAILABLE", "2xx"} {
		if r, err := ParseResult(bad); err == nil || !strings.Contains(err.Error(), "unreachable, h2-refused, h2-reset, nor grpc-") {
			t.Errorf("%q is %s, error %v", bad, r, err)
		}
	}
}

func TestResultsOfGRPC(t *testing.T) {
	for code, name := range map[int]string{0: "grpc-ok", 1: "grpc-cancelled", 4: "grpc-deadline-exceeded", 14: "grpc-unavailable", 16: "grpc-unauthenticated"} {
		r := ResultGRPC(code)
		got, ok := r.GRPC()
		if _, status := r.Status(); r.String() != name || got != code || !ok || status {
			t.Errorf("code %d: %s, code %d, %v, a status: %v", code, r, got, ok, status)
		}
	}
	for _, code := range []int{-1, 17, 1 << 20} {
		if r := ResultGRPC(code); r != ResultUnknown {
			t.Errorf("code %d: %s", code, r)
		}
	}
	for _, r := range []Result{ResultH2Reset, 999, MaxResult + 1} {
		if code, ok := r.GRPC(); ok {
			t.Errorf("%d is the gRPC code %d", r, code)
		}
	}
}

func TestResultSetHoldsEveryResult(t *testing.T) {
	var all ResultSet
	all.AddRange(0, MaxResult+10)
	if all.Len() != MaxResult+1 {
		t.Errorf("%d results, expected %d", all.Len(), MaxResult+1)
	}
	for r := range Result(MaxResult + 1) {
		var s ResultSet
		if s.Add(r); !s.Has(r) || s.Len() != 1 {
			t.Errorf("a set of %s: %v", r, s)
		}
	}
	if all.Has(MaxResult + 1) {
		t.Error("a set has a result beyond the last")
	}
}

// A plain success of a circuit without events is of no class that a policy can name.
func TestPlainSuccessIsNoNamedResult(t *testing.T) {
	var all ResultSet
	all.AddRange(0, MaxResult)
	if all.Has(resultPlain) {
		t.Error("a policy can name plain successes")
	}
}
