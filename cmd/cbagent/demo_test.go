package main

import (
	"strings"
	"testing"
)

func TestDemoRefusesOtherForms(t *testing.T) {
	stdout, stderr, code := cbagent(t, "", "demo", "-o", "yaml")
	if code != 1 || stdout != "" || !strings.Contains(stderr, `--output must be text or json, got "yaml"`) {
		t.Errorf("code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}
