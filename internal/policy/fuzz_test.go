package policy

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/cbagent/cbagent/internal/answer"
)

// FuzzParse: a file without errors makes policies that the breaker can run and the kernel can answer for, and that read
// back as they were; a file with errors says where.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) < 3 {
		f.Fatalf("%d files, %v", len(files), err)
	}
	wrong, err := filepath.Glob("testdata/wrong/*.yaml")
	if err != nil || len(wrong) < 1 {
		f.Fatalf("%d wrong files, %v", len(wrong), err)
	}
	for _, file := range append(files, wrong...) {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, text := range []string{
		"mode: monitor", "trip: [{failureRate: 0.5}]", "trip: {slowRate: {rate: 0.5, over: 1s}}", "window: {type: count, size: 7}",
		"window: {size: 1m, bucket: 5s}", "halfOpen: {ramp: {from: 0}}", "reject: {body: x, headers: {X-A: b}}", "rateLimit: {limit: 1}",
		"outcome: {failure: [4xx, 500-504, reset], slow: 1s}", "protocol: tcp",
	} {
		f.Add([]byte("policies: [{name: a, match: {hosts: ['a:80']}, " + text + "}]"))
	}
	f.Fuzz(checkInvariants)
}

// checkInvariants fails if Parse makes of data what it must not.
func checkInvariants(t *testing.T, data []byte) {
	set, err := Parse("p.yaml", data)
	if err != nil {
		for _, e := range err.(Errors) {
			if e.File != "p.yaml" || e.Message == "" || e.Line < 0 || e.Line > 0 && e.Column < 1 {
				t.Errorf("error without a place: %+v", e)
			}
		}
		return
	}
	for _, p := range set.Policies {
		if err := p.Breaker.Validate(); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
		if p.Summary() == "" {
			t.Errorf("%s: no summary", p.Name)
		}
		for _, reason := range answer.Reasons() {
			spec := p.Reject.Answer.For(p.Name, reason)
			for _, r := range []answer.Rendered{
				answer.Render(spec, reason, p.Reject.RetryAfter), answer.RenderHTTP2(spec, reason, p.Reject.RetryAfter),
				answer.RenderGRPC(spec, reason),
			} {
				if n := len(r.Bytes); n > answer.MaxSize {
					t.Errorf("%s: an answer of %d bytes", p.Name, n)
				}
			}
		}
	}
	asYAML, err := set.YAML()
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	for _, rendered := range [][]byte{asYAML, asJSON} {
		back, err := Parse("p.yaml", rendered)
		if err != nil {
			t.Fatalf("%v in\n%s", err, rendered)
		}
		if changes := Diff(set, back); len(changes.Unchanged) != len(set.Policies) {
			t.Fatalf("%+v in\n%s", changes, rendered)
		}
	}
}
