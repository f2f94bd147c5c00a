package main

import (
	"bytes"
	"strings"
	"testing"
)

// cbagent runs one command line and returns what it printed and its exit code.
func cbagent(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(args, &env{stdin: strings.NewReader(stdin), stdout: &out, stderr: &errs})
	return out.String(), errs.String(), code
}

func TestEveryCommandHasHelp(t *testing.T) {
	for _, command := range newRootCommand(&env{}).Commands() {
		stdout, stderr, code := cbagent(t, "", command.Name(), "-h")
		if code != 0 || stderr != "" || !strings.Contains(stdout, "Usage:") {
			t.Errorf("%s -h: code %d, stdout %q, stderr %q", command.Name(), code, stdout, stderr)
		}
		if command.Short == "" {
			t.Errorf("%s has no short description", command.Name())
		}
	}
}
