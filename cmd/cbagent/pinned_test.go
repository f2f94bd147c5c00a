package main

import (
	"os"
	"strings"
	"testing"
)

// The command lines of the README and of the unit keep circuits over a restart.
func TestShippedCommandsPin(t *testing.T) {
	for path, command := range map[string]string{
		"../../README.md":                      "$ cbagent run ",
		"../../deploy/systemd/cbagent.service": "ExecStart=/usr/bin/cbagent run ",
	} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, command) {
				found++
				if !strings.Contains(line, " --bpffs /sys/fs/bpf/cbagent") {
					t.Errorf("%s: no --bpffs /sys/fs/bpf/cbagent in %s", path, line)
				}
			}
		}
		if found == 0 {
			t.Errorf("%s: no line begins with %q", path, command)
		}
	}
}
