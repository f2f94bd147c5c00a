package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cbagent/cbagent/internal/lab/rootonly"
)

// Where the pods of a node are is found, named, or need not be known.
func TestFind(t *testing.T) {
	rootonly.Test(t)
	root, err := Root()
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
		name    string
		setting string
		kube    bool
		pods    string
		wrong   string // what the error says; empty: there is none
	}{
		{"none", None, true, "", ""},
		{"empty", "", true, "", ""},
		{"auto, not in Kubernetes", Auto, false, "", ""},
		{"named", mine, false, filepath.Base(mine), ""},
		{"named, in Kubernetes", mine, true, filepath.Base(mine), ""},
		{"the root itself", root, false, "", "it must be below " + root},
		{"elsewhere", t.TempDir(), false, "", "it must be below " + root},
		{"not there", mine + "-not", false, "", "no such file or directory"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Find(tc.setting, tc.kube)
			if tc.wrong == "" {
				if err != nil || got.Pods != tc.pods || got.Known() != (tc.pods != "") {
					t.Errorf("got %+v, %v; want %q", got, err, tc.pods)
				}
				return
			}
			if !errors.Is(err, ErrNoPods) || !strings.Contains(err.Error(), tc.wrong) || !strings.Contains(err.Error(), "--pods-cgroup=none") {
				t.Errorf("got %q, %v; want an error with %q and the remedy", got, err, tc.wrong)
			}
		})
	}
}

// The level counts the root's own level and every directory between the root and the pods.
func TestPlace(t *testing.T) {
	root := t.TempDir()
	rootID, err := ID(root)
	if err != nil {
		t.Fatal(err)
	}
	for pods, below := range map[string]int{"kubepods": 1, "kubelet.slice/kubelet-kubepods.slice": 2, "a/b/kubepods": 3} {
		n := NodePods{Root: root, Pods: pods}
		if err := os.MkdirAll(n.Path(), 0o755); err != nil {
			t.Fatal(err)
		}
		want, err := ID(filepath.Join(root, pods))
		if err != nil {
			t.Fatal(err)
		}
		id, level, err := n.place(func(id uint64) (int, error) {
			if id != rootID {
				t.Errorf("%s: the level of %d is asked for, want that of the root, %d", pods, id, rootID)
			}
			return 4, nil
		})
		if err != nil || id != want || level != 4+below {
			t.Errorf("%s: id %d, level %d, %v; want id %d, level %d", pods, id, level, err, want, 4+below)
		}
	}
}

func TestPlaceOfWhatIsNotThere(t *testing.T) {
	n := NodePods{Root: t.TempDir(), Pods: "kubepods"}
	level := func(uint64) (int, error) { return 0, nil }
	if _, _, err := n.place(level); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
	if err := os.Mkdir(n.Path(), 0o755); err != nil {
		t.Fatal(err)
	}
	_, _, err := n.place(func(uint64) (int, error) { return 0, os.ErrPermission })
	if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "--pods-cgroup=none") {
		t.Errorf("got %v, want %v and the remedy", err, os.ErrPermission)
	}
	if _, _, err := (NodePods{Root: n.Root + "/not", Pods: "kubepods"}).place(level); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a root: got %v, want %v", err, os.ErrNotExist)
	}
}
