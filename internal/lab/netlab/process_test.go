package netlab

import (
	"bytes"
	"os/exec"
	"testing"

	"github.com/cbagent/cbagent/internal/lab/rootonly"
)

// A process is to get a signal when its client ends, and not when the thread does that happened to start it: threads
// that made namespaces must live on.
func TestProcessOutlivesMakingOfNamespaces(t *testing.T) {
	rootonly.Test(t)
	s := newStar(t, Options{})
	var children []*exec.Cmd
	var inputs []interface{ Close() error }
	var outputs []*bytes.Buffer
	for range 20 {
		cat := exec.Command("cat")
		in, err := cat.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out := &bytes.Buffer{}
		cat.Stdout = out
		if err := s.Client.Start(cat); err != nil {
			t.Fatal(err)
		}
		children, inputs, outputs = append(children, cat), append(inputs, in), append(outputs, out)
		// Each takes whatever thread is free, the one that has just started a process among them.
		newStar(t, Options{})
		if _, err := in.Write([]byte("alive")); err != nil {
			t.Error(err)
		}
	}
	for i, child := range children {
		if err := inputs[i].Close(); err != nil {
			t.Error(err)
		}
		if err := child.Wait(); err != nil || outputs[i].String() != "alive" {
			t.Errorf("process %d ended with %v, having said %q", i, err, outputs[i])
		}
	}
}
