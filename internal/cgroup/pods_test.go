package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestPods(t *testing.T) {
	tests := []struct {
		name    string
		folders []string
		want    string
	}{
		{"kubelet's driver", []string{"system.slice/kubelet.service", "kubepods/burstable/pod1", "kubepods/pod2"}, "kubepods"},
		{"systemd's driver", []string{"init.scope", "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice"}, "kubepods.slice"},
		{"below a cgroup root", []string{"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice"}, "kubelet.slice/kubelet-kubepods.slice"},
		{"not what sounds alike", []string{"kubepodsx/pod1", "user.slice"}, ""},
		{"not at any depth", []string{"a/b/c/kubepods"}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			for _, folder := range test.folders {
				if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			got, err := Pods(root)
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if (test.want == "") != errors.Is(err, ErrNoPods) {
				t.Errorf("error %v", err)
			}
		})
	}
}
