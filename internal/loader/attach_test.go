package loader

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

var small = Options{Circuits: 16, Policies: 16, Answers: 16, Flows: 64, Ring: 1 << 16}

// load is Load for as long as the test lasts, or until it is closed.
func load(t *testing.T, opts Options) *Datapath {
	t.Helper()
	d, err := Load(opts)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// inNamespace runs fn in a network namespace of its own that has the interfaces eth0, and tun0 without a link header.
func inNamespace(t *testing.T, fn func(ns *netlab.Namespace)) {
	t.Helper()
	lab := &netlab.Lab{}
	t.Cleanup(func() { _ = lab.Close() })
	ns, err := lab.Namespace("node")
	if err != nil {
		t.Fatal(err)
	}
	// A machine without udev has no such file before the module is there, which opening the file loads.
	if _, err := os.Stat("/dev/net/tun"); errors.Is(err, os.ErrNotExist) {
		err := errors.Join(os.MkdirAll("/dev/net", 0o755), unix.Mknod("/dev/net/tun", unix.S_IFCHR|0o600, int(unix.Mkdev(10, 200))))
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := ns.Do(func() error {
		for _, l := range []netlink.Link{
			&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth1"},
			&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tun0"}, Mode: netlink.TUNTAP_MODE_TUN},
		} {
			if err := netlink.LinkAdd(l); err != nil {
				return fmt.Errorf("make %s: %w", l.Attrs().Name, err)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := ns.Do(func() error { fn(ns); return nil }); err != nil {
		t.Fatal(err)
	}
}

// attached lists what is attached to an interface of this thread's namespace, as "tcx ingress" or "clsact egress NAME".
func attached(t *testing.T, name string) []string {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{}
	for where, kind := range map[string]ebpf.AttachType{"ingress": ebpf.AttachTCXIngress, "egress": ebpf.AttachTCXEgress} {
		res, err := link.QueryPrograms(link.QueryOptions{Target: l.Attrs().Index, Attach: kind})
		if err != nil && haveTCX() {
			t.Fatal(err)
		}
		if res != nil {
			for range res.Programs {
				all = append(all, "tcx "+where)
			}
		}
	}
	for where, parent := range map[string]uint32{"ingress": netlink.HANDLE_MIN_INGRESS, "egress": netlink.HANDLE_MIN_EGRESS} {
		filters, err := netlink.FilterList(l, parent)
		if err != nil {
			continue // no such qdisc
		}
		for _, f := range filters {
			if b, ok := f.(*netlink.BpfFilter); ok {
				all = append(all, "clsact "+where+" "+b.Name)
			}
		}
	}
	slices.Sort(all)
	return all
}

// wantAttached waits until that is so: the kernel removes links without a reference a moment later.
func wantAttached(t *testing.T, name string, want ...string) {
	t.Helper()
	want = append([]string{}, want...)
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		diff := cmp.Diff(want, attached(t, name))
		if diff == "" {
			return
		}
		if time.Now().After(end) {
			t.Errorf("attached to %s (-want +got):\n%s", name, diff)
			return
		}
	}
}

func TestAttach(t *testing.T) {
	for _, clsact := range []bool{false, true} {
		mode := "tcx"
		if clsact {
			mode = "clsact"
		}
		t.Run(mode, func(t *testing.T) {
			if !clsact && !haveTCX() {
				t.Skip("tcx needs Linux 6.6")
			}
			opts := small
			opts.Clsact = clsact
			d := load(t, opts)
			both := []string{"tcx egress", "tcx ingress"}
			lo := []string{"tcx egress"}
			if clsact {
				both = []string{"clsact egress cbagent-egress", "clsact ingress cbagent-ingress"}
				lo = []string{"clsact egress cbagent-loopback"}
			}
			inNamespace(t, func(ns *netlab.Namespace) {
				index := map[string]int{}
				for name, want := range map[string][]string{"eth0": both, "tun0": both, "lo": lo} {
					h, err := d.Attach(name)
					if err != nil {
						t.Fatal(err)
					}
					index[name] = h.Index
					if h.Mode != mode || h.L3 != (name == "tun0") {
						t.Errorf("%s: mode %s, L3 %t", name, h.Mode, h.L3)
					}
					wantAttached(t, name, want...)
					if _, err := d.Attach(name); err != nil {
						t.Errorf("attach to %s again: %v", name, err)
					}
					wantAttached(t, name, want...)
				}
				if len(d.Hooks()) != 3 {
					t.Errorf("hooks %+v", d.Hooks())
				}
				if err := d.Detach(index["lo"]); err != nil {
					t.Error(err)
				}
				wantAttached(t, "lo")
				if err := d.Detach(index["lo"]); err != nil {
					t.Errorf("detach again: %v", err)
				}
				l, err := ns.Links().LinkByName("tun0")
				if err != nil {
					t.Fatal(err)
				}
				if err := ns.Links().LinkDel(l); err != nil {
					t.Fatal(err)
				}
				if err := d.Detach(index["tun0"]); err != nil {
					t.Errorf("detach from an interface that is gone: %v", err)
				}
				if err := d.Close(); err != nil {
					t.Error(err)
				}
				wantAttached(t, "eth0")
				if err := d.Close(); err != nil {
					t.Errorf("close again: %v", err)
				}
			})
		})
	}
}

func TestAttachToWhatIsNotThere(t *testing.T) {
	d := load(t, small)
	inNamespace(t, func(*netlab.Namespace) {
		if _, err := d.Attach("eth7"); err == nil || !strings.Contains(err.Error(), "eth7") {
			t.Errorf("attach: %v", err)
		}
	})
}

// What others have attached stays, in its order.
func TestAttachBesideOthers(t *testing.T) {
	opts := small
	opts.Clsact = true
	d := load(t, opts)
	other, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "MIT", Instructions: load0})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	inNamespace(t, func(*netlab.Namespace) {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		q := &netlink.GenericQdisc{QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
		}, QdiscType: "clsact"}
		if err := netlink.QdiscAdd(q); err != nil {
			t.Fatal(err)
		}
		if err := netlink.FilterAdd(&netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{
				LinkIndex: l.Attrs().Index, Parent: netlink.HANDLE_MIN_EGRESS, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 50,
			},
			Fd: other.FD(), Name: "theirs", DirectAction: true,
		}); err != nil {
			t.Fatal(err)
		}
		h, err := d.Attach("eth0")
		if err != nil {
			t.Fatal(err)
		}
		wantAttached(t, "eth0", "clsact egress cbagent-egress", "clsact egress theirs", "clsact ingress cbagent-ingress")
		if err := d.Detach(h.Index); err != nil {
			t.Error(err)
		}
		wantAttached(t, "eth0", "clsact egress theirs")
	})
}

// bpffs mounts a BPF file system for the test.
func bpffs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatalf("mount a BPF file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return filepath.Join(dir, "cbagent")
}

func TestPinnedStateIsAdopted(t *testing.T) {
	if !haveTCX() {
		t.Skip("links that outlive an agent need tcx, of Linux 6.6")
	}
	opts := small
	opts.PinPath = bpffs(t)
	backend := tables.Backend{Addr: backendV4}
	v := ledger.Verdict{Kind: ledger.Open, Generation: 7, Until: tables.Now() + int64(time.Hour), Calls: 3, Concurrent: 2}
	inNamespace(t, func(*netlab.Namespace) {
		d := load(t, opts)
		if d.Adopted() {
			t.Error("the first agent has adopted something")
		}
		settings := tables.PolicySettings{Answers: tables.NoAnswers(), HTTP2Answers: tables.NoAnswers(), GRPCAnswers: tables.NoAnswers()}
		settings.Answers[0], settings.HTTP2Answers[1], settings.GRPCAnswers[2] = 1, 2, 3
		if err := errors.Join(d.ResetCircuit(3, 99), d.PutPolicy(2, settings), d.PutBackend(backend, 3, 0)); err != nil {
			t.Fatal(err)
		}
		if err := d.SetNetworks([]tables.Network{{Prefix: netip.MustParsePrefix("203.0.113.0/24"), Port: 9090}}); err != nil {
			t.Fatal(err)
		}
		d.SetPolicy(3, 2)
		d.SetVerdict(3, v)
		if _, err := d.Attach("eth0"); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(opts); !errors.Is(err, ErrBusy) {
			t.Errorf("a second agent: %v, expected %v", err, ErrBusy)
		}
		if _, err := DetachAll(opts.PinPath); !errors.Is(err, ErrBusy) {
			t.Errorf("detach while an agent runs: %v, expected %v", err, ErrBusy)
		}
		secret := node(t, d).Secret
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		wantAttached(t, "eth0", "tcx egress", "tcx ingress")

		d = load(t, opts)
		if !d.Adopted() {
			t.Error("the second agent has adopted nothing")
		}
		if diff := cmp.Diff(v, d.Published(3)); diff != "" {
			t.Errorf("verdict (-want +got):\n%s", diff)
		}
		if d.Owner(3) != 99 {
			t.Errorf("owner %d", d.Owner(3))
		}
		if node(t, d).Secret != secret {
			t.Error("connections that the kernel has answered are not known any more: the key is another")
		}
		if diff := cmp.Diff([]tables.AdoptedBackend{{Backend: backend, Circuit: 3}}, d.AdoptedBackends(), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Errorf("backends (-want +got):\n%s", diff)
		}
		policies, answers := d.UsedTables()
		if !policies[2] || len(policies) != 1 {
			t.Errorf("policies in use: %v", policies)
		}
		if diff := cmp.Diff(map[int]bool{1: true, 2: true, 3: true}, answers); diff != "" {
			t.Errorf("answers in use (-want +got):\n%s", diff)
		}
		for _, port := range []uint16{8080, 9090} {
			if node(t, d).Ports[port/64]&(1<<(port%64)) == 0 {
				t.Errorf("port %d is not watched", port)
			}
		}
		if _, err := d.Attach("eth0"); err != nil {
			t.Fatal(err)
		}
		wantAttached(t, "eth0", "tcx egress", "tcx ingress")
		if err := errors.Join(d.Prune(), d.RemoveBackend(backend), d.SetNetworks(nil)); err != nil {
			t.Error(err)
		}
		if node(t, d).Ports != [1024]uint64{} {
			t.Error("ports are watched although no backend is left")
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}

		// The next does not use the interface any more.
		d = load(t, opts)
		wantAttached(t, "eth0", "tcx egress", "tcx ingress")
		if err := d.Prune(); err != nil {
			t.Error(err)
		}
		wantAttached(t, "eth0")
		if _, err := d.Attach("eth0"); err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}

		// One with other tables cannot use the state, and replaces it.
		other := opts
		other.Circuits = 32
		d = load(t, other)
		if d.Adopted() {
			t.Error("maps of another size were adopted")
		}
		if _, err := d.Attach("eth0"); err != nil {
			t.Fatal(err)
		}
		if err := d.Prune(); err != nil {
			t.Error(err)
		}
		if dirs, _ := filepath.Glob(filepath.Join(opts.PinPath, "maps-*")); len(dirs) != 1 {
			t.Errorf("maps are left of two agents: %v", dirs)
		}
		wantAttached(t, "eth0", "tcx egress", "tcx ingress")
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}

		removed, err := DetachAll(opts.PinPath)
		if err != nil || len(removed) < 3 {
			t.Errorf("removed %v, %v", removed, err)
		}
		wantAttached(t, "eth0")
		if _, err := os.Stat(opts.PinPath); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the pins are still there: %v", err)
		}
		if removed, err := DetachAll(opts.PinPath); err != nil || len(removed) > 0 {
			t.Errorf("the second time removed %v, %v", removed, err)
		}
	})
}

func TestClsactStaysUntilItIsDetached(t *testing.T) {
	opts := small
	opts.PinPath, opts.Clsact = bpffs(t), true
	inNamespace(t, func(*netlab.Namespace) {
		both := []string{"clsact egress cbagent-egress", "clsact ingress cbagent-ingress"}
		for range 2 {
			d := load(t, opts)
			if _, err := d.Attach("eth0"); err != nil {
				t.Fatal(err)
			}
			wantAttached(t, "eth0", both...)
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			wantAttached(t, "eth0", both...)
		}
		if haveTCX() {
			// A newer agent takes over from one that used clsact.
			tcx := opts
			tcx.Clsact = false
			d := load(t, tcx)
			if _, err := d.Attach("eth0"); err != nil {
				t.Fatal(err)
			}
			wantAttached(t, "eth0", "tcx egress", "tcx ingress")
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := DetachAll(opts.PinPath); err != nil {
			t.Error(err)
		}
		wantAttached(t, "eth0")
	})
}
