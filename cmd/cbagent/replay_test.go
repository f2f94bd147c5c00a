package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const replayExample = "../../docs/examples/replay/"

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestReplayOfTheExample(t *testing.T) {
	want := readFile(t, replayExample+"expected.jsonl")
	trace := replayExample + "trace.jsonl"
	for name, args := range map[string][]string{
		"file":           {"replay", "--policy", replayExample + "policy.yaml", trace},
		"seed":           {"replay", "--seed", "7", "--policy", replayExample + "policy.yaml", trace},
		"standard input": {"replay", "--policy", replayExample + "policy.yaml", "-"},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := cbagent(t, readFile(t, trace), args...)
			if code != 0 || stderr != "" || stdout != want {
				t.Errorf("code %d, stderr %q, stdout:\n%s\nwant:\n%s", code, stderr, stdout, want)
			}
		})
	}
}

func TestReplayDocShowsTheExample(t *testing.T) {
	doc := readFile(t, "../../docs/replay.md")
	for _, file := range []string{"policy.yaml", "trace.jsonl", "expected.jsonl"} {
		if !strings.Contains(doc, "\n"+readFile(t, replayExample+file)+"```\n") {
			t.Errorf("docs/replay.md does not show %s as it is", file)
		}
	}
}

func TestReplayBadInput(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.jsonl")
	text := `{"t":1,"backend":"192.0.2.7:8080","status":200}

{"t":0.5,"backend":"192.0.2.7:8080","status":2000}
{"t":0.5,"tick":true}
{"t":2,"backend":"192.0.2.8:8080","status":200}
`
	if err := os.WriteFile(bad, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := cbagent(t, "", "replay", "--policy", replayExample+"policy.yaml", bad)
	want := bad + ":3: status: must be between 100 and 999, got 2000\n" +
		bad + ":4: t: must not go back, got 0.5 after 1\n" +
		bad + ":5: backend: no policy matches 192.0.2.8:8080\n"
	if code != 1 || stderr != want {
		t.Errorf("code %d, stderr:\n%s\nwant:\n%s", code, stderr, want)
	}
	for want, args := range map[string][]string{
		`required flag(s) "policy" not set`:                  {"replay", bad},
		"open the trace: open " + filepath.Join(dir, "none"): {"replay", "--policy", replayExample + "policy.yaml", filepath.Join(dir, "none")},
		"none.yaml": {"replay", "--policy", filepath.Join(dir, "none.yaml"), bad},
	} {
		if _, stderr, code := cbagent(t, "", args...); code != 1 || !strings.Contains(stderr, want) {
			t.Errorf("%v: code %d, stderr %q, want %q", args, code, stderr, want)
		}
	}
}
