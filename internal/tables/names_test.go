package tables

import (
	"math/bits"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"

	"github.com/cbagent/cbagent/internal/answer"
	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/breaker"
)

// enumOf returns the constants of a C enum in the order of their values, without the one that ends it, as labels:
// REASON_FORCED_OPEN of enum reason is "forced-open".
func enumOf(t *testing.T, name, prefix, end string) []string {
	t.Helper()
	spec, err := bpf.LoadC()
	if err != nil {
		t.Fatal(err)
	}
	var enum *btf.Enum
	if err := spec.Types.TypeByName(name, &enum); err != nil {
		t.Fatalf("enum %s: %v", name, err)
	}
	var labels []string
	for i, v := range enum.Values {
		if v.Value != uint64(i) {
			t.Fatalf("%s of enum %s is %d: expected %d, without gaps", v.Name, name, v.Value, i)
		}
		label, ok := strings.CutPrefix(v.Name, prefix)
		if !ok {
			t.Fatalf("%s of enum %s does not begin with %s", v.Name, name, prefix)
		}
		if v.Name == end {
			if i != len(enum.Values)-1 {
				t.Fatalf("%s is not the last of enum %s", end, name)
			}
			return labels
		}
		labels = append(labels, strings.ReplaceAll(strings.ToLower(label), "_", "-"))
	}
	if end != "" {
		t.Fatalf("enum %s does not end with %s", name, end)
	}
	return labels
}

func TestLabelsAreThoseOfThePrograms(t *testing.T) {
	var results []string
	for _, r := range breaker.NamedResults() {
		results = append(results, r.String())
	}
	for _, c := range []struct {
		enum, prefix, end string
		labels            []string
	}{
		{"hook", "HOOK_", "HOOK_MAX", hookNames},
		{"action", "ACTION_", "ACTION_MAX", actionNames},
		{"reason", "REASON_", "REASON_MAX", reasonNames},
		{"reject", "REJECT_", "REJECT_MAX", RejectNames[:]},
		{"result", "RESULT_", "RESULT_NAMED", results},
		{"opening", "OPENING_", "OPENING_MAX", openingNames[:]},
	} {
		if want := enumOf(t, c.enum, c.prefix, c.end); !slices.Equal(c.labels, want) {
			t.Errorf("enum %s: the agent calls them %q, the programs %q", c.enum, c.labels, want)
		}
	}
}

func TestRefusalsAreThoseOfAnswers(t *testing.T) {
	rejections := []Rejection{
		RejectedOpen, RejectedForcedOpen, RejectedHalfOpen, RejectedConnectionLimit, RejectedRequestLimit, RejectedRateLimit,
	}
	if len(rejections) != Rejections {
		t.Fatalf("%d rejections have a name, the programs know %d", len(rejections), Rejections)
	}
	var names []string
	for i, r := range rejections {
		if int(r) != i {
			t.Errorf("rejection %s is %d, expected %d", r, r, i)
		}
		names = append(names, r.String())
	}
	if !slices.Equal(names, answer.Reasons()) {
		t.Errorf("answers name %q, the programs %q", answer.Reasons(), names)
	}
}

func TestOpeningsHaveAName(t *testing.T) {
	for i, o := range []Opening{OpeningTLS, OpeningMalformed, OpeningPROXY, OpeningOther} {
		if int(o) != i || o.String() != openingNames[i] {
			t.Errorf("opening %d is %d, %q: expected %q", i, o, o, openingNames[i])
		}
	}
}

// Each class has a place of its own, in the order of the numbers, and its name is that of the results that it counts.
func TestClassesOfOutcomes(t *testing.T) {
	place := -1
	for r := range breaker.Result(breaker.MaxResult + 1) {
		status, isStatus := r.Status()
		if r >= breaker.Result(len(breaker.NamedResults())) && r < 100 {
			continue
		}
		want := r.String()
		if isStatus {
			want = want[:1] + "xx"
		}
		if !isStatus || status%100 == 0 {
			place++
		}
		if got := OutcomeClass(r); got != place || OutcomeName(got) != want {
			t.Errorf("%s is counted at %d, %s: expected %d, %s", r, got, OutcomeName(got), place, want)
		}
	}
	if place != OutcomeClasses-1 {
		t.Errorf("the last class is %d of %d", place, OutcomeClasses)
	}
}

func TestSizesAreThoseOfOtherPackages(t *testing.T) {
	if answerMax != answer.MaxSize {
		t.Errorf("an answer has up to %d bytes, the programs take %d", answer.MaxSize, answerMax)
	}
	if retryWidth != answer.RetryFieldLen {
		t.Errorf("the Retry-After field has %d bytes, the programs take %d", answer.RetryFieldLen, retryWidth)
	}
	if want := len(breaker.NamedResults()) + 9 + breaker.GRPCCodes; OutcomeClasses != want {
		t.Errorf("the programs count %d classes of outcomes, expected %d", OutcomeClasses, want)
	}
	if got, want := len(bpf.CPolicy{}.Failure), len(breaker.ResultSet{}); got != want {
		t.Errorf("a set of results has %d words, the programs take %d", want, got)
	}
}

func TestFlagsAreSingleBits(t *testing.T) {
	spec, err := bpf.LoadC()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"verdict_flag", "backend_flag", "flow_flag", "request_flag", "policy_flag", "node_flag", "event_flag"} {
		var enum *btf.Enum
		if err := spec.Types.TypeByName(name, &enum); err != nil {
			t.Errorf("enum %s: %v", name, err)
			continue
		}
		var seen uint64
		for _, v := range enum.Values {
			if bits.OnesCount64(v.Value) != 1 || seen&v.Value != 0 {
				t.Errorf("%s of enum %s is %#x: expected a bit of its own", v.Name, name, v.Value)
			}
			seen |= v.Value
		}
	}
}
