package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/lab/agenttest"
	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// vipPlaces are ways of a process of the node through a virtual address to another process of the node. NAT happens
// before lo, in both directions: no packet there has the addresses of both sockets.
var vipPlaces = map[string]func(t *testing.T) place{
	"VIP":      func(t *testing.T) place { return vipPlace(t, netlab.NodeIPv4, false) },
	"VIP IPv6": func(t *testing.T) place { return vipPlace(t, netlab.NodeIPv6, false) },
	// kube-proxy hides the client, too: the packets have two other addresses.
	"VIP, masqueraded":      func(t *testing.T) place { return vipPlace(t, netlab.NodeIPv4, true) },
	"VIP, masqueraded IPv6": func(t *testing.T) place { return vipPlace(t, netlab.NodeIPv6, true) },
	"VIP of 127.0.0.1":      func(t *testing.T) place { return vipPlace(t, netip.MustParseAddr("127.0.0.1"), false) },
	"VIP of ::1":            func(t *testing.T) place { return vipPlace(t, netip.IPv6Loopback(), false) },
	"VIP of the same port": func(t *testing.T) place {
		return vipPlaceAt(t, netip.MustParseAddrPort("10.96.0.30:8080"), netlab.NodeIPv4, true)
	},
	// A SYN-ACK with a cookie has no socket.
	"VIP and SYN cookies": func(t *testing.T) place {
		p := vipPlace(t, netlab.NodeIPv4, true)
		set(t, p.node, "net.ipv4.tcp_syncookies", "2")
		return p
	},
	// The client dials the backend itself, but its own address is changed.
	"masqueraded on lo": func(t *testing.T) place {
		p := toNode(t, newStar(t, netlab.Options{Remote: true}), false)
		p.client, p.interfaces = p.node, []string{"lo"}
		nft(t, p.node, `table ip nat {
			chain postrouting { type nat hook postrouting priority 100; oifname "lo" tcp dport 8080 snat to 10.22.0.1; }
		}`)
		firewall(t, p.node)
		return p
	},
}

func init() {
	for name, newPlace := range vipPlaces {
		places[name] = newPlace
	}
}

// vipPlace is through a virtual address of another port than the backend's.
func vipPlace(t *testing.T, backend netip.Addr, masquerade bool) place {
	vip := netip.MustParseAddrPort("10.96.0.30:80")
	if backend.Is6() {
		vip = netip.MustParseAddrPort("[2001:db8:96::30]:80")
	}
	return vipPlaceAt(t, vip, backend, masquerade)
}

// vipPlaceAt is on a node with a default route, without which a virtual address has none, with strict reverse path
// filtering, and with a firewall that drops what connection tracking finds odd.
func vipPlaceAt(t *testing.T, vip netip.AddrPort, backend netip.Addr, masquerade bool) place {
	star := newStar(t, netlab.Options{Remote: true})
	p := place{
		client: star.Node, node: star.Node, home: star.Node, interfaces: []string{"lo"}, onNode: !backend.IsLoopback(),
		dial: vip, backend: netip.AddrPortFrom(backend, port), neighbour: netip.AddrPortFrom(backend, port+1),
	}
	listen := p.backend
	if backend == netlab.NodeIPv4 {
		// As most servers do, which then have sockets of IPv6 for clients of IPv4.
		listen = netip.AddrPortFrom(netip.IPv6Unspecified(), port)
	}
	p.server, p.other = serve(t, star.Node, listen), serve(t, star.Node, p.neighbour)
	family := "ip"
	if backend.Is6() {
		family = "ip6"
	}
	hide := ""
	if masquerade {
		hide = fmt.Sprintf("chain postrouting { type nat hook postrouting priority 100; ct original %s daddr %s masquerade fully-random; }",
			family, vip.Addr())
	}
	nft(t, star.Node, fmt.Sprintf(`table %s nat {
		chain output { type nat hook output priority -100; %s daddr %s tcp dport %d dnat to %s; }
		%s
	}`, family, family, vip.Addr(), vip.Port(), p.backend, hide))
	firewall(t, star.Node)
	return p
}

// TestFailuresBehindAVIPOpen: what a backend's own socket sends is known by the socket, a reset of a closed port by what
// its client dialled.
func TestFailuresBehindAVIPOpen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		failure string
		fail    func(t *testing.T, p place)
		want    string // what clients see meanwhile
		at      []string
	}{
		"status":  {"5xx", behave(testserver.Behaviour{Status: 500}), "500", []string{"VIP IPv6"}},
		"reset":   {"reset", behave(testserver.Behaviour{Ending: testserver.EndReset}), "reset", []string{"VIP", "VIP of 127.0.0.1"}},
		"closed":  {"reset", behave(testserver.Behaviour{Ending: testserver.EndClose}), "closed", []string{"VIP, masqueraded"}},
		"hang":    {"timeout", behave(testserver.Behaviour{Ending: testserver.EndHang}), "timeout", []string{"VIP of 127.0.0.1"}},
		"refused": {"connect-refused", refuse, "connect-refused", []string{"VIP", "VIP IPv6", "VIP, masqueraded", "VIP of 127.0.0.1"}},
	} {
		for _, at := range c.at {
			t.Run(name+", "+at, func(t *testing.T) {
				t.Parallel()
				p := vipPlaces[at](t)
				agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend},
					append([]string{"outcome: {failure: [" + c.failure + "], timeout: 200ms}"}, threeFailures...)...), p.interfaces)
				hangsUnseen(agent, c.failure)
				wantStatus(t, call(t, client(t, p.client, p.dial)), 200)
				c.fail(t, p)
				failThrice(t, p, agent, c.want)
				for _, method := range []string{"GET", "HEAD", "POST"} {
					r := client(t, p.client, p.dial).Do(soon(t), loadgen.Request{Method: method})
					if reason, ok := r.FromKernel(); r.Status != 503 || !ok || reason != "open" {
						t.Errorf("%s: got %s (kernel %v), %v; want the kernel's 503", method, r.Outcome(), ok, r.Err)
					}
				}
				wantStatus(t, call(t, client(t, p.client, p.neighbour)), 200)
			})
		}
	}
}

// TestMappedClientOfAVIP has a client of IPv4 with a socket of IPv6, as Java's all are.
func TestMappedClientOfAVIP(t *testing.T) {
	t.Parallel()
	p := vipPlaces["VIP"](t)
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, threeFailures...), p.interfaces)
	mapped := func() *loadgen.Client {
		c := client(t, p.client, p.dial)
		c.Dial = func(context.Context, string, string) (net.Conn, error) {
			var conn net.Conn
			err := p.client.Do(func() (err error) {
				conn, err = dialMapped(p.dial)
				return err
			})
			return conn, err
		}
		return c
	}
	kept, c := mapped(), mapped()
	wantStatus(t, call(t, kept), 200)
	began := time.Now()
	p.server.Set(testserver.Behaviour{Status: 500})
	for range 3 {
		wantStatus(t, call(t, c), 500)
	}
	if _, err := agent.Await(soon(t), p.backend.String(), "open", began); err != nil {
		t.Fatal(err)
	}
	wantAnswer(t, call(t, kept), "open")
	wantAnswer(t, call(t, mapped()), "open")
}

// dialMapped connects to an IPv4-mapped IPv6 address: net.Dial would make plain IPv4 of it.
func dialMapped(to netip.AddrPort) (net.Conn, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), to.String())
	defer func() { _ = f.Close() }()
	if err := unix.Connect(fd, &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}); err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

// TestConnectionThroughAVIPOlderThanTheAgent is followed from its next request on.
func TestConnectionThroughAVIPOlderThanTheAgent(t *testing.T) {
	t.Parallel()
	for name, ending := range map[string]testserver.Behaviour{"status": {Status: 500}, "reset": {Ending: testserver.EndReset}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := vipPlaces["VIP, masqueraded"](t)
			kept := make([]*loadgen.Client, 4)
			for i := range kept {
				kept[i] = client(t, p.client, p.dial)
				wantStatus(t, call(t, kept[i]), 200)
			}
			agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, threeFailures...), p.interfaces)
			for _, c := range kept {
				wantStatus(t, call(t, c), 200)
			}
			began := time.Now()
			p.server.Set(ending)
			for _, c := range kept[1:] {
				if r := call(t, c); !r.Reused || r.Status == 200 {
					t.Fatalf("got %s, on the old connection: %v", r.Outcome(), r.Reused)
				}
			}
			if _, err := agent.Await(soon(t), p.backend.String(), "open", began); err != nil {
				t.Fatal(err)
			}
			wantAnswer(t, call(t, kept[0]), "open")
		})
	}
}

// TestLoIsLeftAsItWas: an agent that ends restores what it has set. One that is killed cannot; nobody notices.
func TestLoIsLeftAsItWas(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end  func(t *testing.T, p *agenttest.Agent)
		left string
	}{
		"stopped": {func(t *testing.T, p *agenttest.Agent) {
			if err := p.Stop(); err != nil {
				t.Fatal(err)
			}
		}, "0"},
		"killed": {func(_ *testing.T, p *agenttest.Agent) { p.Kill() }, "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := vipPlaces["VIP of 127.0.0.1"](t)
			agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, "mode: forced-open"), p.interfaces)
			wantAnswer(t, call(t, client(t, p.client, p.dial)), "forced-open")
			wantLo(t, p.node, "1")
			set(t, p.node, "net.ipv4.conf.lo.accept_local", "0")
			wantLo(t, p.node, "1")
			c.end(t, agent)
			wantLo(t, p.node, c.left)
			for _, to := range []netip.AddrPort{p.dial, p.backend, p.neighbour} {
				// The kernel removes the programs of a killed process a moment later.
				eventually(t, "clients reach "+to.String(), func() bool { return call(t, client(t, p.client, to)).Status == 200 })
			}
		})
	}
}

// wantLo waits until lo has the value for what answers through NAT need.
func wantLo(t *testing.T, in *netlab.Namespace, want string) {
	t.Helper()
	for _, setting := range []string{"accept_local", "route_localnet"} {
		eventually(t, setting+" of lo is "+want, func() bool {
			var got []byte
			err := in.Do(func() (err error) {
				got, err = os.ReadFile("/proc/sys/net/ipv4/conf/lo/" + setting)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(string(got)) == want
		})
	}
}
