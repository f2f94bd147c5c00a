package policy

import (
	"fmt"
	"strings"
	"testing"
)

// manyPolicies is a file with n policies of ten addresses and a few keys each.
func manyPolicies(n int) []byte {
	var b strings.Builder
	b.WriteString("defaults: {mode: monitor, window: {size: 30s}}\npolicies:\n")
	for i := range n {
		fmt.Fprintf(&b, "- name: p%d\n  match:\n    addresses:\n", i)
		for j := range 10 {
			fmt.Fprintf(&b, "    - 10.%d.%d.%d:8080\n", i/250, i%250, j)
		}
		b.WriteString("  trip:\n    all: [{minCalls: 10}, {failureRate: 0.3}]\n  reject: {body: '{}', headers: {X-Team: shop}}\n")
	}
	return []byte(b.String())
}

func BenchmarkParse1000Policies(b *testing.B) {
	data := manyPolicies(1000)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		set, err := Parse("p.yaml", data)
		if err != nil || len(set.Policies) != 1000 {
			b.Fatal(err)
		}
	}
}

func BenchmarkDiff1000Policies(b *testing.B) {
	before, err := Parse("p.yaml", manyPolicies(1000))
	if err != nil {
		b.Fatal(err)
	}
	after, err := Parse("p.yaml", manyPolicies(1000))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if changes := Diff(before, after); len(changes.Unchanged) != 1000 {
			b.Fatalf("%+v", changes)
		}
	}
}
