package e2e

import (
	"net"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// counter is somebody else's program: it counts packets of IPv4 and lets the next one decide.
type counter struct {
	*ebpf.Program
	packets *ebpf.Map
}

func newCounter(t *testing.T) counter {
	t.Helper()
	packets, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = packets.Close() })
	return counter{packets: packets, Program: classifier(t, asm.Instructions{
		asm.LoadMem(asm.R7, asm.R6, 16, asm.Word), // skb->protocol
		asm.JNE.Imm(asm.R7, unix.ETH_P_IP<<8&0xff00|unix.ETH_P_IP>>8, "next"),
		asm.LoadMapValue(asm.R1, packets.FD(), 0),
		asm.Mov.Imm(asm.R2, 1),
		asm.StoreXAdd(asm.R1, asm.R2, asm.DWord),
	})}
}

func (c counter) read(t *testing.T) (n uint64) {
	t.Helper()
	if err := c.packets.Lookup(uint32(0), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// attachFilter attaches a program as a clsact filter, with a qdisc that may be there already.
func attachFilter(t *testing.T, in *netlab.Namespace, iface string, parent uint32, priority uint16, prog *ebpf.Program) {
	t.Helper()
	l, err := in.Links().LinkByName(iface)
	if err != nil {
		t.Fatal(err)
	}
	index := l.Attrs().Index
	qdisc := &netlink.GenericQdisc{QdiscType: "clsact", QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
	if err := in.Links().QdiscReplace(qdisc); err != nil {
		t.Fatal(err)
	}
	err = in.Links().FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: parent, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: priority},
		Fd:          prog.FD(), Name: "somebody", DirectAction: true,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// attachHead attaches a program before those that an interface has.
func attachHead(t *testing.T, in *netlab.Namespace, iface string, where ebpf.AttachType, prog *ebpf.Program) {
	t.Helper()
	err := in.Do(func() error {
		ifc, err := net.InterfaceByName(iface)
		if err != nil {
			return err
		}
		l, err := link.AttachTCX(link.TCXOptions{Interface: ifc.Index, Program: prog, Attach: where, Anchor: link.Head()})
		if err == nil {
			t.Cleanup(func() { _ = l.Close() })
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestOtherProgramsKeepWorking has programs of somebody else on the same interface, from before and after the agent
// started: they see what they saw without it, but for packets that were turned back before it was their turn.
func TestOtherProgramsKeepWorking(t *testing.T) {
	t.Parallel()
	type others struct {
		out, in []counter // at the interface of the backend; out: the last sees what the agent let through
	}
	for name, c := range map[string]struct {
		flags  []string
		before func(t *testing.T, star *netlab.Star, o others)
		after  func(t *testing.T, star *netlab.Star, o others)
	}{
		"tcx": {
			before: func(t *testing.T, star *netlab.Star, o others) {
				attachTC(t, star.Node, "be1", ebpf.AttachTCXEgress, o.out[1].Program)
				attachTC(t, star.Node, "be1", ebpf.AttachTCXIngress, o.in[1].Program)
			},
			after: func(t *testing.T, star *netlab.Star, o others) {
				attachHead(t, star.Node, "be1", ebpf.AttachTCXEgress, o.out[0].Program)
				attachHead(t, star.Node, "be1", ebpf.AttachTCXIngress, o.in[0].Program)
			},
		},
		"clsact": {
			flags: []string{"--clsact"},
			before: func(t *testing.T, star *netlab.Star, o others) {
				attachTC(t, star.Node, "be1", ebpf.AttachTCXEgress, o.out[0].Program)
				attachTC(t, star.Node, "be1", ebpf.AttachTCXIngress, o.in[0].Program)
				attachFilter(t, star.Node, "be1", netlink.HANDLE_MIN_EGRESS, 7, o.out[1].Program)
			},
			after: func(t *testing.T, star *netlab.Star, o others) {
				attachFilter(t, star.Node, "be1", netlink.HANDLE_MIN_INGRESS, 7, o.in[1].Program)
			},
		},
		"filters behind tcx": {
			before: func(t *testing.T, star *netlab.Star, o others) {
				attachFilter(t, star.Node, "be1", netlink.HANDLE_MIN_EGRESS, 1, o.out[1].Program)
				attachFilter(t, star.Node, "be1", netlink.HANDLE_MIN_INGRESS, 1, o.in[1].Program)
			},
			after: func(t *testing.T, star *netlab.Star, o others) {
				attachHead(t, star.Node, "be1", ebpf.AttachTCXEgress, o.out[0].Program)
				attachHead(t, star.Node, "be1", ebpf.AttachTCXIngress, o.in[0].Program)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			star := newStar(t, netlab.Options{Backends: 2})
			at, fine := netip.AddrPortFrom(star.Backends[0].IPv4, port), netip.AddrPortFrom(star.Backends[1].IPv4, port)
			server := serve(t, star.Backends[0].Namespace, at)
			serve(t, star.Backends[1].Namespace, fine)
			o := others{out: []counter{newCounter(t), newCounter(t)}, in: []counter{newCounter(t), newCounter(t)}}
			c.before(t, star, o)
			agent := startAgent(t, star.Node, policyOf([]netip.AddrPort{at}, threeFailures...), []string{"be*"}, c.flags...)
			c.after(t, star, o)
			read := func() (out, in [2]uint64) {
				for i := range out {
					out[i], in[i] = o.out[i].read(t), o.in[i].read(t)
				}
				return out, in
			}
			still := func(what string) {
				t.Helper()
				out, in := read()
				kept := client(t, star.Client, at)
				wantStatus(t, call(t, kept), 200)
				kept.Close()
				eventually(t, what+": all programs see a call that is let through", func() bool {
					nowOut, nowIn := read()
					for i := range out {
						if nowOut[i] < out[i]+4 || nowIn[i] < in[i]+3 { // SYN, ACK, request, FIN; SYN-ACK, response, FIN
							return false
						}
					}
					return true
				})
			}
			still("closed")
			c1 := client(t, star.Client, at)
			openCircuit(t, agent, server, c1)
			wantAnswer(t, call(t, c1), "open") // resets the open connection
			eventually(t, "the connection at the backend has ended", func() bool { return live(t, star.Backends[0].Namespace, port) == 0 })

			out, in := read()
			const calls = 10
			for range calls {
				wantAnswer(t, call(t, client(t, star.Client, at)), "open")
			}
			nowOut, nowIn := read()
			if got := nowOut[0] - out[0]; got < 3*calls {
				t.Errorf("who comes before saw %d packets of %d rejected calls go out, want all", got, calls)
			}
			if got := nowOut[1] - out[1]; got != 0 {
				t.Errorf("who comes after saw %d packets of rejected calls go out, want none", got)
			}
			for i := range nowIn {
				if got := nowIn[i] - in[i]; got < 2*calls {
					t.Errorf("program %d saw %d packets of %d answers come in, want all", i, got, calls)
				}
			}
			wantStatus(t, call(t, client(t, star.Client, fine)), 200)

			if err := agent.Stop(); err != nil {
				t.Fatal(err)
			}
			server.Set(testserver.Behaviour{})
			still("without the agent")
		})
	}
}

// TestAnotherProgramsVerdictHolds: what somebody else's program throws away stays thrown away.
func TestAnotherProgramsVerdictHolds(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string][]string{"tcx": nil, "clsact": {"--clsact"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			star := newStar(t, netlab.Options{Backends: 2})
			at, fine := netip.AddrPortFrom(star.Backends[0].IPv4, port), netip.AddrPortFrom(star.Backends[1].IPv4, port)
			serve(t, star.Backends[0].Namespace, at)
			serve(t, star.Backends[1].Namespace, fine)
			shut := classifier(t, asm.Instructions{ // all but empty packets
				asm.LoadMem(asm.R7, asm.R6, 0, asm.Word), asm.JEq.Imm(asm.R7, 0, "next"),
				asm.Mov.Imm(asm.R0, 2), asm.Return(), // TC_ACT_SHOT
			})
			if name == "tcx" {
				attachTC(t, star.Node, "be1", ebpf.AttachTCXEgress, shut)
			} else {
				attachFilter(t, star.Node, "be1", netlink.HANDLE_MIN_EGRESS, 1, shut)
			}
			startAgent(t, star.Node, policyOf([]netip.AddrPort{at, fine}, threeFailures...), []string{"be*"}, flags...)
			if got := outcome(t, star.Client, at); got != "connect-timeout" {
				t.Errorf("got %s, want silence", got)
			}
			wantStatus(t, call(t, client(t, star.Client, fine)), 200)
		})
	}
}

// TestFiltersOfAnotherKind: where somebody has filters of another kind at the first place, the agent's come right behind.
func TestFiltersOfAnotherKind(t *testing.T) {
	t.Parallel()
	star := newStar(t, netlab.Options{Backends: 2})
	at, fine := netip.AddrPortFrom(star.Backends[0].IPv4, port), netip.AddrPortFrom(star.Backends[1].IPv4, port)
	serve(t, star.Backends[0].Namespace, at)
	serve(t, star.Backends[1].Namespace, fine)
	for _, iface := range []string{"be1", "be2"} {
		l, err := star.Node.Links().LinkByName(iface)
		if err != nil {
			t.Fatal(err)
		}
		index := l.Attrs().Index
		qdisc := &netlink.GenericQdisc{QdiscType: "clsact", QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
		}}
		if err := star.Node.Links().QdiscAdd(qdisc); err != nil {
			t.Fatal(err)
		}
		for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
			// UDP goes out again.
			err := star.Node.Links().FilterAdd(&netlink.U32{
				FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: parent, Protocol: unix.ETH_P_IP, Priority: 1},
				Sel:         &netlink.TcU32Sel{Flags: netlink.TC_U32_TERMINAL, Nkeys: 1, Keys: []netlink.TcU32Key{{Mask: 0x00ff0000, Val: 0x00110000, Off: 8}}},
				Actions: []netlink.Action{&netlink.MirredAction{
					ActionAttrs: netlink.ActionAttrs{Action: netlink.TC_ACT_STOLEN}, MirredAction: netlink.TCA_EGRESS_REDIR, Ifindex: index,
				}},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	agent := startAgent(t, star.Node, policyOf([]netip.AddrPort{at}, "mode: forced-open"), []string{"be*"}, "--clsact")
	wantAnswer(t, call(t, client(t, star.Client, at)), "forced-open")
	wantStatus(t, call(t, client(t, star.Client, fine)), 200)
	if err := agent.Stop(); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, call(t, client(t, star.Client, at)), 200)
	l, err := star.Node.Links().LinkByName("be1")
	if err != nil {
		t.Fatal(err)
	}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		filters, err := star.Node.Links().FilterList(l, parent)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range filters {
			if f.Type() != "u32" {
				t.Errorf("a filter of kind %s is left", f.Type())
			}
		}
		if len(filters) == 0 {
			t.Error("somebody's filter is gone")
		}
	}
}
