package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cbagent/cbagent/internal/cgroup"
	"github.com/cbagent/cbagent/internal/lab/rootonly"
)

// Where the pods of a node are is found, named, or need not be known.
func TestPodsCgroup(t *testing.T) {
	rootonly.Test(t)
	root, err := cgroup.Root()
	if err != nil {
		t.Fatal(err)
	}
	mine, err := os.MkdirTemp(root, "cbagent-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(mine); err != nil {
			t.Error(err)
		}
	})
	for _, tc := range []struct {
		name  string
		cfg   Config
		pods  string
		wrong string // what the error says; empty: there is none
	}{
		{"none", Config{PodsCgroup: PodsNone, NodeName: "n1"}, "", ""},
		{"auto, not in Kubernetes", Config{PodsCgroup: PodsAuto}, "", ""},
		{"named", Config{PodsCgroup: mine}, filepath.Base(mine), ""},
		{"named, in Kubernetes", Config{PodsCgroup: mine, NodeName: "n1"}, filepath.Base(mine), ""},
		{"the root itself", Config{PodsCgroup: root}, "", "it must be below " + root},
		{"elsewhere", Config{PodsCgroup: t.TempDir()}, "", "it must be below " + root},
		{"not there", Config{PodsCgroup: mine + "-not"}, "", "no such file or directory"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, pods, err := podsCgroup(&tc.cfg)
			if tc.wrong == "" {
				if err != nil || pods != tc.pods {
					t.Errorf("got %q, %v; want %q", pods, err, tc.pods)
				}
				return
			}
			if !errors.Is(err, cgroup.ErrNoPods) || !strings.Contains(err.Error(), tc.wrong) || !strings.Contains(err.Error(), "--pods-cgroup=none") {
				t.Errorf("got %q, %v; want an error with %q and the remedy", pods, err, tc.wrong)
			}
		})
	}
}
