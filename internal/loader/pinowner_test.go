package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// wantError complains of an error that is not all of what is wanted.
func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error lacks %q: %v", part, err)
		}
	}
}

func TestPathsThatCannotBePinnedTo(t *testing.T) {
	plain := t.TempDir()
	readOnly := filepath.Dir(bpffs(t))
	if err := unix.Mount("", readOnly, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, path string
		want       []string
	}{
		{"another file system", filepath.Join(plain, "cbagent"),
			[]string{"--bpffs " + plain + "/cbagent", plain + " is not on a BPF file system", "mount -t bpf bpf /sys/fs/bpf", "hostPath: {path: /sys/fs/bpf}"}},
		{"too deep", filepath.Join(plain, "a", "b"), []string{"there is no " + plain + "/a", "/sys/fs/bpf/cbagent"}},
		{"read-only", filepath.Join(readOnly, "cbagent"), []string{readOnly + ": read-only file system", "remount,rw", "without `readOnly: true`"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			opts := small
			opts.PinPath = test.path
			_, err := Load(opts)
			wantError(t, err, test.want...)
		})
	}
}

func TestRunningAgentIsNamed(t *testing.T) {
	opts := small
	opts.PinPath = bpffs(t)
	inNamespace(t, func(*netlab.Namespace) {
		load(t, opts)
		_, err := Load(opts)
		if !errors.Is(err, ErrBusy) {
			t.Errorf("%v, want %v", err, ErrBusy)
		}
		wantError(t, err, "--bpffs "+opts.PinPath, fmt.Sprintf("(process %d)", os.Getpid()), "systemctl stop cbagent")
	})
}

// The links of another namespace's agent are on interfaces that have the numbers of others here.
func TestPinsOfAnotherNamespace(t *testing.T) {
	if !haveTCX() {
		t.Skip("links that outlive an agent need tcx, of Linux 6.6")
	}
	opts := small
	opts.PinPath = bpffs(t)
	leave := func(t *testing.T) {
		t.Helper()
		d := load(t, opts)
		if _, err := d.Attach("eth0"); err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("which is there", func(t *testing.T) {
		inNamespace(t, func(theirs *netlab.Namespace) {
			leave(t)
			inNamespace(t, func(*netlab.Namespace) {
				_, err := Load(opts)
				if !errors.Is(err, ErrElsewhere) {
					t.Errorf("%v, want %v", err, ErrElsewhere)
				}
				wantError(t, err, "-ingress", "cbagent detach --bpffs "+opts.PinPath, "hostNetwork: true")
				wantAttached(t, "eth0")
			})
			wantAttached(t, "eth0", "tcx egress", "tcx ingress")
			leave(t) // for an agent of that namespace they are as good as ever
			wantAttached(t, "eth0", "tcx egress", "tcx ingress")
			if _, err := DetachAll(opts.PinPath); err != nil {
				t.Error(err)
			}
			wantAttached(t, "eth0")
		})
	})
	t.Run("which is gone", func(t *testing.T) {
		if !t.Run("before", func(t *testing.T) { inNamespace(t, func(*netlab.Namespace) { leave(t) }) }) {
			return
		}
		inNamespace(t, func(*netlab.Namespace) {
			for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
				d, err := Load(opts)
				if err == nil {
					if err := d.Close(); err != nil {
						t.Error(err)
					}
					break
				}
				if !errors.Is(err, ErrElsewhere) || time.Now().After(end) {
					t.Fatal(err)
				}
			}
			leave(t)
			wantAttached(t, "eth0", "tcx egress", "tcx ingress")
			if _, err := DetachAll(opts.PinPath); err != nil {
				t.Error(err)
			}
		})
	})
}

func TestDetachLeavesWhatOthersHavePinned(t *testing.T) {
	opts := small
	opts.PinPath = filepath.Dir(bpffs(t)) // the root of the file system, where others pin too
	theirs := filepath.Join(opts.PinPath, "theirs")
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Pin(theirs); err != nil {
		t.Fatal(err)
	}
	inNamespace(t, func(*netlab.Namespace) {
		if err := load(t, opts).Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := DetachAll(opts.PinPath); err != nil {
			t.Error(err)
		}
	})
	entries, err := os.ReadDir(opts.PinPath)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if ours(e.Name()) {
			t.Errorf("%s is left", e.Name())
		}
	}
	if _, err := os.Stat(theirs); err != nil {
		t.Error(err)
	}
}
