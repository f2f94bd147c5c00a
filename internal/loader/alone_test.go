package loader

import (
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// Programs of others would not see a client's packets that are rejected before them.
func TestEntryIsLeftWhereOthersHavePrograms(t *testing.T) {
	theirs, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "MIT", Instructions: load0})
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	for _, mode := range []string{"tcx", "clsact"} {
		t.Run(mode, func(t *testing.T) {
			if mode == "tcx" && !haveTCX() {
				t.Skip("tcx needs Linux 6.6")
			}
			opts := small
			opts.Clsact = mode == "clsact"
			d := load(t, opts)
			inNamespace(t, func(*netlab.Namespace) {
				h, err := d.Attach("eth0")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := d.Attach("tun0"); err != nil {
					t.Fatal(err)
				}
				wantEntries(t, d, true, h.Index)
				wantEntries(t, d, false)
				// Not in subtests: those run in threads of another network namespace.
				for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
					remove := addFilter(t, h.Index, parent, theirs)
					wantEntries(t, d, true)
					remove()
					wantEntries(t, d, true, h.Index)
				}
				if !haveTCX() {
					return
				}
				for _, attach := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
					l, err := link.AttachTCX(link.TCXOptions{Interface: h.Index, Program: theirs, Attach: attach})
					if err != nil {
						t.Fatal(err)
					}
					wantEntries(t, d, true)
					if err := l.Close(); err != nil {
						t.Fatal(err)
					}
					wantEntries(t, d, true, h.Index)
				}
			})
		})
	}
}

// addFilter adds a clsact filter that is not ours, and returns what removes it.
func addFilter(t *testing.T, ifindex int, parent uint32, prog *ebpf.Program) (remove func()) {
	t.Helper()
	err := netlink.QdiscAdd(&netlink.GenericQdisc{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}, QdiscType: "clsact"})
	if err != nil && err != unix.EEXIST {
		t.Fatal(err)
	}
	filter := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: ifindex, Parent: parent, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 50},
		Fd:          prog.FD(), Name: "theirs", DirectAction: true,
	}
	if err := netlink.FilterAdd(filter); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := netlink.FilterDel(filter); err != nil {
			t.Fatal(err)
		}
	}
}

// wantEntries waits until RejectAtEntry names these interfaces: the kernel detaches a closed link a moment later.
func wantEntries(t *testing.T, d *Datapath, on bool, ifindexes ...int) {
	t.Helper()
	want := map[uint32]bool{}
	for _, i := range ifindexes {
		want[uint32(i)] = true
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if err := d.RejectAtEntry(on); err != nil {
			t.Fatal(err)
		}
		got := map[uint32]bool{}
		var key, val uint32
		it := d.objs.Entries.Iterate()
		for it.Next(&key, &val) {
			got[key] = true
		}
		if err := it.Err(); err != nil {
			t.Fatal(err)
		}
		same := len(got) == len(want)
		for k := range want {
			same = same && got[k]
		}
		if same {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("clients are rejected at %v, expected %v", got, want)
		}
	}
}
