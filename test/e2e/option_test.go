package e2e

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// dialWith returns a Dial of a namespace whose sockets are made as prepare says.
func dialWith(in *netlab.Namespace, multipath bool, prepare func(fd int) error) loadgen.Dial {
	return func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
			if prepare == nil {
				return nil
			}
			if inner := raw.Control(func(fd uintptr) { err = prepare(int(fd)) }); inner != nil {
				return inner
			}
			return err
		}}
		d.SetMultipathTCP(multipath)
		err = in.Do(func() (err error) {
			c, err = d.DialContext(ctx, network, addr)
			return err
		})
		return c, err
	}
}

// TestMultipathTCP has clients and a server that speak Multipath TCP, Go's default for listeners.
func TestMultipathTCP(t *testing.T) {
	t.Parallel()
	star := newStar(t, netlab.Options{Backends: 2})
	at, fine := netip.AddrPortFrom(star.Backends[0].IPv4, port), netip.AddrPortFrom(star.Backends[1].IPv4, port)
	multipath := func(in *netlab.Namespace) testserver.Listen {
		return func(at netip.AddrPort) (l net.Listener, err error) {
			var lc net.ListenConfig
			lc.SetMultipathTCP(true)
			err = in.Do(func() (err error) {
				l, err = lc.Listen(context.Background(), "tcp", at.String())
				return err
			})
			return l, err
		}
	}
	var servers []*testserver.Server
	for i, to := range []netip.AddrPort{at, fine} {
		s, err := testserver.New(multipath(star.Backends[i].Namespace), to)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		servers = append(servers, s)
	}
	agent := startAgent(t, star.Node, policyOf([]netip.AddrPort{at}, threeFailures...), []string{"be*"})
	client := func(to netip.AddrPort) *loadgen.Client {
		c := client(t, star.Client, to)
		c.Dial = dialWith(star.Client, true, nil)
		return c
	}
	kept := client(at)
	if c, err := kept.Dial(soon(t), "tcp", at.String()); err != nil {
		t.Fatal(err)
	} else {
		multipath, err := c.(*net.TCPConn).MultipathTCP()
		if err != nil || !multipath {
			t.Fatalf("the connection is not of Multipath TCP (%v)", err)
		}
		_ = c.Close()
	}
	wantStatus(t, call(t, kept), 200)
	wantStatus(t, call(t, kept), 200)
	openCircuit(t, agent, servers[0], client(at))
	before := servers[0].Counts()
	wantAnswer(t, call(t, kept), "open")
	wantAnswer(t, call(t, client(at)), "open")
	wantAnswer(t, client(at).Do(soon(t), loadgen.Request{Method: "POST", Body: testserver.FakeTraffic(1 << 20)}), "open")
	if got := servers[0].Counts().Sub(before); got.Requests != 0 {
		t.Errorf("the backend saw %+v", got)
	}
	wantStatus(t, call(t, client(fine)), 200)
}

// netstat reads a counter of the namespace's TCP.
func netstat(t *testing.T, in *netlab.Namespace, counter string) uint64 {
	t.Helper()
	var table []byte
	err := in.Do(func() (err error) {
		table, err = os.ReadFile("/proc/thread-self/net/netstat")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if i := slices.Index(names, counter); i > 0 && f[0] == names[0] {
			n, err := strconv.ParseUint(f[i], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		names = f
	}
	t.Fatalf("no counter %s", counter)
	return 0
}

// TestFastOpen has clients that send their request with the SYN. Nobody looks into a SYN that is let through, but one
// that is rejected is answered like any other.
func TestFastOpen(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	for _, n := range []*netlab.Namespace{p.client, p.home} {
		set(t, n, "net.ipv4.tcp_fastopen", "0x403") // both sides, for all listeners
	}
	refuse(t, p)
	if err := p.server.Accept(); err != nil { // a listener that knows of it
		t.Fatal(err)
	}
	agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, threeFailures...), p.interfaces)
	fast := func() *loadgen.Client {
		c := client(t, p.client, p.dial)
		c.Dial = dialWith(p.client, false, func(fd int) error {
			return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1)
		})
		return c
	}
	for range 3 {
		wantStatus(t, call(t, fast()), 200)
	}
	if netstat(t, p.client, "TCPFastOpenActive") == 0 {
		t.Error("no request went with a SYN")
	}
	failing := client(t, p.client, p.dial)
	openCircuit(t, agent, p.server, failing)
	failing.Close()
	before := p.server.Counts()
	for range 3 {
		wantAnswer(t, call(t, fast()), "open")
		wantAnswer(t, fast().Do(soon(t), loadgen.Request{Method: "POST", Body: testserver.FakeTraffic(100000)}), "open")
	}
	if got := p.server.Counts().Sub(before); got.Requests != 0 || got.Connections != 0 {
		t.Errorf("the backend saw %+v", got)
	}
	wantStatus(t, call(t, client(t, p.client, p.neighbour)), 200)
}
