package loader

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"

	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// What enters through an uplink belongs to inbound policies, and what enters elsewhere to outbound ones.
// BPF_PROG_TEST_RUN takes no interface for this kind of program, so packets come through real ones.
func TestLookupKnowsUplinks(t *testing.T) {
	r := newRig(t)
	var lab netlab.Lab
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	namespace := func(name string) *netlab.Namespace {
		n, err := lab.Namespace(name)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	node, remote := namespace("node"), namespace("remote")
	home := netip.MustParseAddrPort("192.0.2.1:8080")
	err := lab.Veth(
		netlab.End{In: node, Interface: "up0", Addresses: []netip.Prefix{netip.PrefixFrom(home.Addr(), 24)}},
		netlab.End{In: remote, Interface: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24")}})
	if err != nil {
		t.Fatal(err)
	}
	up, err := node.Links().LinkByName("up0")
	if err != nil {
		t.Fatal(err)
	}
	server, err := node.Listen(home)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	prog := r.program("lookup")
	err = node.Do(func() error {
		ns, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		defer ns.Close()
		l, err := link.AttachNetNs(int(ns.Fd()), prog)
		if err == nil {
			t.Cleanup(func() { _ = l.Close() })
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.d.SetUplinks([]int{uplinkIndex}); err != nil {
			t.Error(err)
		}
	})
	for _, tc := range []struct {
		name      string
		direction tables.Direction
		uplink    bool // up0 is one
		rejected  bool
	}{
		{"inbound, through an uplink", tables.Inbound, true, true},
		{"inbound, through another interface", tables.Inbound, false, false},
		{"outbound, through an uplink", tables.Outbound, true, false},
		{"outbound, through another interface", tables.Outbound, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			r.put(home, tables.PolicySettings{Direction: tc.direction, Reject: tables.Reset}, ledger.Verdict{Kind: ledger.ForcedOpen, Generation: 1})
			uplinks := []int{uplinkIndex}
			if tc.uplink {
				uplinks = append(uplinks, up.Attrs().Index)
			}
			if err := r.d.SetUplinks(uplinks); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			c, err := remote.DialContext(ctx, "tcp", home.String())
			if err == nil {
				_ = c.Close()
			}
			if tc.rejected != errors.Is(err, syscall.ECONNREFUSED) || !tc.rejected && err != nil {
				t.Errorf("connect: %v, should be rejected: %t", err, tc.rejected)
			}
		})
	}
}
