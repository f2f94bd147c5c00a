package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	validator "github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/cbagent/cbagent/internal/policy"
)

const committed = "../../docs/policy.schema.json"

// TestMain moves to the package that is described, as go generate does.
func TestMain(m *testing.M) {
	if err := os.Chdir(".."); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func TestCommittedSchemaIsUpToDate(t *testing.T) {
	want, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(committed)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the Go types say; run: go generate ./internal/policy", committed)
	}
}

func compiled(t *testing.T) *validator.Schema {
	t.Helper()
	s, err := validator.NewCompiler().Compile(committed)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func validate(t *testing.T, s *validator.Schema, data []byte) error {
	t.Helper()
	var doc any
	if err := yaml.Load(data, &doc); err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}

// What the agent reads, an editor must not mark as wrong.
func TestSchemaAcceptsWhatTheAgentAccepts(t *testing.T) {
	s := compiled(t)
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(t, s, data); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		set, err := policy.Parse(file, data)
		if err != nil {
			t.Error(err)
			continue
		}
		resolved, err := set.YAML()
		if err != nil {
			t.Error(err)
			continue
		}
		if err := validate(t, s, resolved); err != nil {
			t.Errorf("%s with defaults filled in: %v", file, err)
		}
	}
}

func TestSchemaRejects(t *testing.T) {
	s := compiled(t)
	const good = "policies: [{name: a, match: {addresses: ['192.0.2.1:80']}, KEY}]"
	if err := validate(t, s, []byte(strings.Replace(good, ", KEY", "", 1))); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{
		"windw: {}", "mode: on", "window: {size: 0}", "window: {size: ten}", "open: {jitter: 1.5}", "open: {jitter: high}",
		"halfOpen: {calls: -1}", "outcome: {slow: 5}", "outcome: {failure: [6x]}", "outcome: {failure: [grpc-14]}", "outcome: {failure: 5xx}",
		"trip: {}", "trip: []", "trip: {minCalls: 1, failureRate: 0.5}", "trip: {failureRate: 0}", "trip: {any: {minCalls: 1}}",
		"trip: {consecutiveFailures: {of: [503]}}", "trip: {not: {not: {state: open}}}", "reject: {status: 100}",
		"reject: {headers: {X: 1}}", "rateLimit: {limit: 0}", "match: {ports: [80]}",
	} {
		data := []byte(strings.Replace(good, "KEY", key, 1))
		if key == "match: {ports: [80]}" {
			data = []byte("policies: [{name: a, " + key + "}]")
		}
		if err := validate(t, s, data); err == nil {
			t.Errorf("%s is accepted", key)
		}
		if _, err := policy.Parse("", data); err == nil {
			t.Errorf("%s is accepted by the agent", key)
		}
	}
}
