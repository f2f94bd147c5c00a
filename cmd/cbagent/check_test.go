package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write("good.yaml", `policies:
- name: orders
  match: {addresses: ["192.0.2.7:8080", "192.0.2.7:8080"]}
`)
	stdout, stderr, code := cbagent(t, "", "check", good)
	if want := "orders: enforce, outbound http; 1 address; opens when consecutiveFailures >= 5 or (minCalls >= 20 and " +
		"failureRate >= 0.5) in 10s; for 30s, exponential up to 5m; then 3 probes; answers 503\n"; stdout != want {
		t.Errorf("stdout is %q, want %q", stdout, want)
	}
	if want := "warning: " + good + ":3:41: policies[0].match.addresses[1]: is the same as entry 0 of this list\n"; stderr != want {
		t.Errorf("stderr is %q, want %q", stderr, want)
	}
	if code != 0 {
		t.Errorf("exit code %d", code)
	}

	bad := write("bad.yaml", "policies:\n- name: orders\n  match: {}\n  mode: on\n")
	stdout, stderr, code = cbagent(t, "", "check", bad)
	want := bad + ":3:10: policies[0].match: must have at least one of addresses, cidrs, hosts and services\n" +
		bad + ":4:9: policies[0].mode: must be one of enforce, monitor, disabled, forced-open, got \"on\"\n"
	if stdout != "" || stderr != want || code != 1 {
		t.Errorf("code %d, stdout %q, stderr %q, want %q", code, stdout, stderr, want)
	}

	limited := write("limited.yaml", "policies:\n- name: files\n  match: {addresses: ['192.0.2.7:80']}\n  limits: {maxRequests: 2}\n")
	wantNote := "note: " + limited + ":4:25: policies[0].limits.maxRequests: counts a request until the status line of its response: " +
		"bodies that are still sent are not limited, maxConnections limits them\n"
	if stdout, stderr, code := cbagent(t, "", "check", limited); code != 0 || stderr != wantNote || !strings.HasPrefix(stdout, "files: ") {
		t.Errorf("maxRequests: code %d, stdout %q, stderr %q, want %q", code, stdout, stderr, wantNote)
	}

	// Data from a pipe is read from standard input: a path must be a regular file.
	if stdout, stderr, code := cbagent(t, "policies: [{name: piped, match: {addresses: ['192.0.2.1:80']}}]", "check", "-"); code != 0 || !strings.HasPrefix(stdout, "piped: ") {
		t.Errorf("standard input: code %d, %q, %q", code, stdout, stderr)
	}
	if _, stderr, code := cbagent(t, "policies: {}", "check", "-"); code != 1 || !strings.HasPrefix(stderr, "standard input:1:11: policies: ") {
		t.Errorf("standard input with an error: code %d, %q", code, stderr)
	}

	missing := filepath.Join(dir, "missing.yaml")
	if _, stderr, code := cbagent(t, "", "check", missing); code != 1 || stderr != missing+": no such file or directory\n" {
		t.Errorf("code %d, stderr %q", code, stderr)
	}
	if _, stderr, code := cbagent(t, "", "check"); code != 1 || !strings.Contains(stderr, "accepts 1 arg(s)") {
		t.Errorf("code %d, stderr %q", code, stderr)
	}
}
