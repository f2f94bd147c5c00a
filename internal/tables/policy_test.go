package tables

import (
	"slices"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/bpf"
)

// What is admitted at an even pace, and at once, never exceeds the limit.
func TestRateIsRoundedDown(t *testing.T) {
	for _, tc := range []struct {
		limit  int
		period time.Duration
		burst  int
		every  uint64 // ns
		credit uint64 // ns
	}{
		{1, time.Second, 1, 1e9, 0},
		{10, time.Second, 5, 1e8, 4e8},
		{3, time.Second, 2, 333333334, 333333334},
		{7, time.Minute, 1, 8571428572, 0},
		{1, 1, 1, 1, 0},
		{1e9, time.Second, 1e9, 1, 1e9 - 1},
	} {
		p := (&PolicySettings{RateLimit: tc.limit, RatePeriod: tc.period, RateBurst: tc.burst}).compile(0)
		if p.RateInterval != tc.every || p.RateBurst != tc.credit {
			t.Errorf("%d in %s, burst %d: one each %d ns, credit %d ns; want %d, %d",
				tc.limit, tc.period, tc.burst, p.RateInterval, p.RateBurst, tc.every, tc.credit)
		}
		if admitted := uint64(tc.period) / p.RateInterval; admitted > uint64(tc.limit) {
			t.Errorf("%d in %s: %d are admitted", tc.limit, tc.period, admitted)
		}
	}
}

func TestPolicyIsCompiled(t *testing.T) {
	for _, tc := range []struct {
		name     string
		settings PolicySettings
		ok       func(p bpf.CPolicy) bool
	}{
		{"no rate limit", PolicySettings{}, func(p bpf.CPolicy) bool { return p.RateInterval == 0 && p.RateBurst == 0 }},
		{"no flags", PolicySettings{}, func(p bpf.CPolicy) bool { return p.Flags == 0 && p.Existing == 0 }},
		{"every", PolicySettings{Every: true}, func(p bpf.CPolicy) bool { return p.Flags == uint32(bpf.CPolicyFlagPOLICY_EVERY) }},
		{"exempt sources", PolicySettings{ExemptSome: true}, func(p bpf.CPolicy) bool {
			return p.Flags == uint32(bpf.CPolicyFlagPOLICY_EXEMPT_SOURCES)
		}},
		{"exempt node", PolicySettings{ExemptNode: true}, func(p bpf.CPolicy) bool {
			return p.Flags == uint32(bpf.CPolicyFlagPOLICY_EXEMPT_NODE)
		}},
		{"existing", PolicySettings{Existing: true}, func(p bpf.CPolicy) bool { return p.Existing == 1 }},
		{"answers", PolicySettings{Answers: [Rejections]int{3, -1, 0}}, func(p bpf.CPolicy) bool {
			return p.Answers == [Rejections]uint32{3, noAnswer, 0}
		}},
		{"answers of each protocol", PolicySettings{HTTP2Answers: [Rejections]int{4}, GRPCAnswers: [Rejections]int{5}}, func(p bpf.CPolicy) bool {
			return p.Answers[0] == 0 && p.Http2Answers[0] == 4 && p.GrpcAnswers[0] == 5
		}},
		{"no answers", PolicySettings{Answers: NoAnswers()}, func(p bpf.CPolicy) bool {
			return !slices.ContainsFunc(p.Answers[:], func(a uint32) bool { return a != noAnswer })
		}},
		{"index", PolicySettings{}, func(p bpf.CPolicy) bool { return p.Id == 1 }},
	} {
		if p := tc.settings.compile(1); !tc.ok(p) {
			t.Errorf("%s: %+v", tc.name, p)
		}
	}
}

func TestPolicyOutsideTheTable(t *testing.T) {
	tables := inMemory()
	for index, ok := range map[int]bool{-1: false, 0: true, 1: true, 2: false} {
		if err := tables.PutPolicy(index, PolicySettings{}); (err == nil) != ok {
			t.Errorf("policy %d of 2: %v", index, err)
		}
	}
}
