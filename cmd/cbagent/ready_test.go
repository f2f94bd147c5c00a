package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReady(t *testing.T) {
	a, socket := startStandIn(t)
	if stdout, stderr, code := cbagent(t, "", "ready", "--control-socket", socket); code != 0 || stdout != "ready\n" {
		t.Errorf("ready: exit code %d, %q, %q", code, stdout, stderr)
	}
	a.snapshot.Agent.WaitsFor = "no policies are in force: the reason"
	_, stderr, code := cbagent(t, "", "ready", "--wait", "10ms", "--control-socket", socket)
	if want := "cbagent: not ready: no policies are in force: the reason\n"; code != 1 || stderr != want {
		t.Errorf("not ready: exit code %d, %q; want 1, %q", code, stderr, want)
	}
	_, stderr, code = cbagent(t, "", "ready", "--control-socket", socket+".not")
	if code != exitNoAgent || !strings.Contains(stderr, "no agent answers") {
		t.Errorf("no agent: exit code %d, %q", code, stderr)
	}
}

func TestTellEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "termination-log")
	writeEnd(path, errors.New("the reason"))
	if _, err := os.Stat(path); err == nil {
		t.Error("a file was made where there is none")
	}
	if err := os.WriteFile(path, []byte("what was there before, and longer"), 0o600); err != nil {
		t.Fatal(err)
	}
	writeEnd(path, errors.New("the reason"))
	if got, err := os.ReadFile(path); err != nil || string(got) != "the reason" {
		t.Errorf("%q, %v", got, err)
	}
}
