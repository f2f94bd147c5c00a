package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// dialEnv makes this binary a process that waits for a line, connects once, and says how it went.
const dialEnv = "E2E_CONNECT_TO"

func init() {
	target := os.Getenv(dialEnv)
	if target == "" {
		return
	}
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	fmt.Println(connect(netip.MustParseAddrPort(target)))
	os.Exit(0)
}

// connect dials with the address as it is: net.Dial would make IPv4 of an IPv4-mapped one.
func connect(to netip.AddrPort) error {
	var sa unix.Sockaddr
	family := unix.AF_INET6
	if to.Addr().Is4() {
		family = unix.AF_INET
		sa = &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
	} else {
		sa = &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Connect(fd, sa)
}

// newCgroup makes a cgroup v2 for the processes of a test.
func newCgroup(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) > 2 && f[2] == "cgroup2" {
			dir, err := os.MkdirTemp(f[1], "cbagent-e2e-")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := os.Remove(dir); err != nil {
					t.Error(err)
				}
			})
			return dir
		}
	}
	t.Fatal("no cgroup v2 is mounted: mount -t cgroup2 none DIR")
	return ""
}

// connectFrom has a process of a cgroup in a namespace connect, and returns what it said.
func connectFrom(t *testing.T, n *netlab.Namespace, cgroup string, to netip.AddrPort) string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), dialEnv+"="+to.String())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := n.Start(cmd); err != nil {
		t.Fatal(err)
	}
	procs := filepath.Join(cgroup, "cgroup.procs")
	if err := os.WriteFile(procs, fmt.Appendln(nil, cmd.Process.Pid), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err, out.String())
	}
	return strings.TrimSpace(out.String())
}

func TestConnectIsRefusedBeforeAnyPacket(t *testing.T) {
	t.Parallel()
	star := newStar(t, netlab.Options{Backends: 2})
	ejected, ejected6 := netip.AddrPortFrom(star.Backends[0].IPv4, port), netip.AddrPortFrom(star.Backends[0].IPv6, port)
	fine := netip.AddrPortFrom(star.Backends[1].IPv4, port)
	serve(t, star.Backends[0].Namespace, ejected, ejected6)
	serve(t, star.Backends[1].Namespace, fine)
	cgroup := newCgroup(t)
	other := newCgroup(t)

	// The agent sees no interface on the way: only connect() can reject.
	startAgent(t, star.Node, policyOf([]netip.AddrPort{ejected, ejected6}, "mode: forced-open", "reject: {with: reset}"),
		[]string{"up*", "lo"}, "--connect-cgroup", cgroup)
	mapped := netip.AddrPortFrom(netip.AddrFrom16(ejected.Addr().As16()), port)
	for _, to := range []netip.AddrPort{ejected, ejected6, mapped} {
		for _, from := range []*netlab.Namespace{star.Client, star.Node} {
			if got := connectFrom(t, from, cgroup, to); got != unix.ECONNREFUSED.Error() {
				t.Errorf("%s to %s: %s, want %s", from.Name(), to, got, unix.ECONNREFUSED)
			}
			if got := connectFrom(t, from, other, to); got != "<nil>" {
				t.Errorf("%s to %s from another cgroup: %s, want success", from.Name(), to, got)
			}
		}
	}
	if got := connectFrom(t, star.Client, cgroup, fine); got != "<nil>" {
		t.Errorf("to a backend of no policy: %s, want success", got)
	}
}

// passAll is what XDP on a veth needs at the other end before it sends anything back.
func passAll(t *testing.T, n *netlab.Namespace, iface string) {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "MIT", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = prog.Close() })
	err = n.Do(func() error {
		ifc, err := net.InterfaceByName(iface)
		if err != nil {
			return err
		}
		l, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: ifc.Index, Flags: link.XDPDriverMode})
		if err == nil {
			t.Cleanup(func() { _ = l.Close() })
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestXDPEndsNewConnections(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"generic", "native"} {
		for _, v6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s v6=%v", mode, v6), func(t *testing.T) {
				t.Parallel()
				star := newStar(t, netlab.Options{Backends: 2, Remote: true})
				ejected, fine := netip.AddrPortFrom(star.Backends[0].IPv4, port), netip.AddrPortFrom(star.Backends[1].IPv4, port)
				if v6 {
					ejected, fine = netip.AddrPortFrom(star.Backends[0].IPv6, port), netip.AddrPortFrom(star.Backends[1].IPv6, port)
				}
				serve(t, star.Backends[0].Namespace, ejected)
				serve(t, star.Backends[1].Namespace, fine)
				if mode == "native" {
					passAll(t, star.Remote, "eth0")
				}
				// TC on the uplink leaves backends behind other interfaces alone: what rejects here is XDP.
				startAgent(t, star.Node, policyOf([]netip.AddrPort{ejected}, "mode: forced-open", "direction: inbound", "reject: {with: reset}"),
					[]string{"up0"}, "--uplink", "up0", "--xdp", mode)
				if _, err := star.Remote.DialContext(soon(t), "tcp", ejected.String()); !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("remote client: %v, want %v", err, syscall.ECONNREFUSED)
				}
				wantStatus(t, call(t, client(t, star.Remote, fine)), 200)
				// A client of this node is an outbound policy's business.
				wantStatus(t, call(t, client(t, star.Client, ejected)), 200)
			})
		}
	}
}

func TestLookupRefusesWhatNATBringsHome(t *testing.T) {
	t.Parallel()
	star := newStar(t, netlab.Options{Backends: 1})
	home := netip.AddrPortFrom(netlab.NodeIPv4, port)
	serve(t, star.Node, home)
	err := star.Node.NFT(`table ip nat {
		chain prerouting { type nat hook prerouting priority -100; ip daddr 10.96.0.20 tcp dport 80 dnat to 10.20.0.1:8080; }
	}`)
	if err != nil {
		t.Fatal(err)
	}
	vip := netip.MustParseAddrPort("10.96.0.20:80")
	wantStatus(t, call(t, client(t, star.Client, vip)), 200)
	startAgent(t, star.Node, policyOf([]netip.AddrPort{home}, "mode: forced-open", "reject: {with: reset}"), []string{"be1"}, "--sk-lookup")
	if _, err := star.Client.DialContext(soon(t), "tcp", vip.String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v, want %v", err, syscall.ECONNREFUSED)
	}
}
