package netlab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/rootonly"
)

// newStar makes a star that is closed with the test.
func newStar(t *testing.T, o Options) *Star {
	t.Helper()
	s, err := NewStar(o)
	if err != nil {
		t.Fatalf("%v (namespaces need root)", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// serve answers HTTP on port 8080 of both addresses of the backend with the client's address.
func serve(t *testing.T, b Backend) {
	t.Helper()
	for _, addr := range []netip.Addr{b.IPv4, b.IPv6} {
		l, err := b.Listen(netip.AddrPortFrom(addr, 8080))
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, netip.MustParseAddrPort(r.RemoteAddr).Addr())
		})}
		done := make(chan error, 1)
		go func() { done <- server.Serve(l) }()
		t.Cleanup(func() {
			_ = server.Close()
			if err := <-done; !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		})
	}
}

// get returns the body that addr answers to a client in n.
func get(t *testing.T, n *Namespace, addr netip.AddrPort) string {
	t.Helper()
	client := n.HTTPClient()
	client.Timeout = 5 * time.Second
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://" + addr.String() + "/")
	if err != nil {
		t.Fatalf("from %s: %v", n.Name(), err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestStar(t *testing.T) {
	rootonly.Test(t)
	for name, o := range map[string]Options{
		"routed":  {Backends: 2, Remote: true},
		"bridged": {Backends: 2, Remote: true, Bridge: true},
		"relayed": {Backends: 2, Remote: true, ClientRelay: true, BackendRelays: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStar(t, o)
			for _, b := range s.Backends {
				serve(t, b)
			}
			type client struct {
				from   *Namespace
				v4, v6 netip.Addr
			}
			clients := []client{
				{s.Client, ClientIPv4, ClientIPv6},
				{s.Remote, RemoteIPv4, RemoteIPv6},
				{s.Backends[0].Namespace, s.Backends[0].IPv4, s.Backends[0].IPv6},
			}
			for _, b := range s.Backends {
				for _, c := range clients {
					if got := get(t, c.from, netip.AddrPortFrom(b.IPv4, 8080)); got != c.v4.String() {
						t.Errorf("%s to %s: seen as %s, want %s", c.from.Name(), b.Name(), got, c.v4)
					}
					if got := get(t, c.from, netip.AddrPortFrom(b.IPv6, 8080)); got != c.v6.String() {
						t.Errorf("%s to %s: seen as %s, want %s", c.from.Name(), b.Name(), got, c.v6)
					}
				}
				if got := get(t, s.Node, netip.AddrPortFrom(b.IPv4, 8080)); !strings.HasPrefix(got, "10.21.") {
					t.Errorf("node to %s: seen as %s, want an address of 10.21.0.0/16", b.Name(), got)
				}
			}
		})
	}
}

// Forward is the way of requests, on every relay.
func TestRelaysOfAStar(t *testing.T) {
	rootonly.Test(t)
	s := newStar(t, Options{Backends: 1, ClientRelay: true, BackendRelays: true})
	b := s.Backends[0]
	serve(t, b)
	var syns [2]atomic.Int32
	for i, r := range []*Relay{s.ClientRelay, b.Relay} {
		r.Forward.SetHook(func(frame []byte) Fate {
			if got, ok := ParseSegment(frame); ok && got.Flags&SYN != 0 && got.Dst == netip.AddrPortFrom(b.IPv4, 8080) {
				syns[i].Add(1)
			}
			return Fate{}
		})
	}
	get(t, s.Client, netip.AddrPortFrom(b.IPv4, 8080))
	if got := [2]int32{syns[0].Load(), syns[1].Load()}; got != [2]int32{1, 1} {
		t.Errorf("%v SYNs on the client's relay and the backend's, want one each", got)
	}
}

func TestNFTChangesDestinationAndSource(t *testing.T) {
	rootonly.Test(t)
	s := newStar(t, Options{Backends: 1})
	serve(t, s.Backends[0])
	vip := netip.MustParseAddrPort("10.96.0.10:80")
	err := s.Node.NFT(`
		table ip nat {
			chain prerouting { type nat hook prerouting priority -100; ip daddr 10.96.0.10 tcp dport 80 dnat to 10.21.1.2:8080; }
			chain postrouting { type nat hook postrouting priority 100; ip daddr 10.21.1.2 masquerade; }
		}`)
	if err != nil {
		t.Fatal(err)
	}
	if got := get(t, s.Client, vip); got != "10.21.1.1" {
		t.Errorf("seen as %s, want the node's 10.21.1.1", got)
	}
	if err := s.Node.NFT("no such thing"); err == nil || !strings.Contains(err.Error(), "in node") {
		t.Errorf("bad rules: got %v, want an error that names the namespace", err)
	}
}

func TestNothingLeftBehind(t *testing.T) {
	rootonly.Test(t)
	here := namespaceID(t)
	s, err := NewStar(Options{Backends: 1})
	if err != nil {
		t.Fatal(err)
	}
	// A process of the namespace keeps it. The namespace is gone when the other end of its veth pair is.
	b := s.Backends[0]
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(cmd); err != nil {
		t.Fatal(err)
	}
	id, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if id == here {
		t.Error("the process runs in the test's own namespace")
	}
	if err := b.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Node.links.LinkByName("be1"); err != nil {
		t.Errorf("the namespace of a living process is gone: %v", err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		if _, err := s.Node.links.LinkByName("be1"); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the namespace outlives its last process")
		}
		time.Sleep(10 * time.Millisecond)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if got := namespaceID(t); got != here {
		t.Errorf("the test's thread is in %s, was in %s", got, here)
	}
}

func TestProcessEndsWithItsStarter(t *testing.T) {
	rootonly.Test(t)
	if os.Getenv("NETLAB_STARTER") != "" {
		starter()
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestProcessEndsWithItsStarter$")
	cmd.Env = append(os.Environ(), "NETLAB_STARTER=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatalf("the starter said nothing: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	deadline := time.Now().Add(10 * time.Second)
	for syscall.Kill(pid, 0) == nil && !zombie(pid) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlives its starter", pid)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Threads come and go with namespaces; a process must outlive that.
func TestProcessOutlivesOtherNamespaces(t *testing.T) {
	rootonly.Test(t)
	s := newStar(t, Options{})
	cmd := exec.Command("sleep", "60")
	if err := s.Client.Start(cmd); err != nil {
		t.Fatal(err)
	}
	var makers sync.WaitGroup
	for range 20 {
		makers.Go(func() {
			for range 5 {
				other, err := NewStar(Options{})
				if err != nil {
					t.Error(err)
					return
				}
				if err := other.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	makers.Wait()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("the process ended with %v, want that this test killed it", err)
	}
}

// starter starts a process in a namespace, prints its number and waits to be killed.
func starter() {
	var lab Lab
	n, err := lab.Namespace("doomed")
	if err != nil {
		panic(err)
	}
	cmd := exec.Command("sleep", "60")
	if err := n.Start(cmd); err != nil {
		panic(err)
	}
	fmt.Println(cmd.Process.Pid)
	_ = cmd.Wait()
}

func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func TestDoReturnsWhenTheFunctionPanics(t *testing.T) {
	rootonly.Test(t)
	here := namespaceID(t)
	s := newStar(t, Options{})
	func() {
		defer func() { _ = recover() }()
		_ = s.Client.Do(func() error {
			return s.Node.Do(func() error { panic("deep inside") })
		})
	}()
	if got := namespaceID(t); got != here {
		t.Errorf("the test's thread is in %s, was in %s", got, here)
	}
}

func TestRefusals(t *testing.T) {
	rootonly.Test(t)
	s := newStar(t, Options{})
	if _, err := s.Client.DialContext(context.Background(), "tcp", "localhost:80"); err == nil {
		t.Error("a name was dialled")
	}
	if _, err := NewStar(Options{Backends: 251}); err == nil {
		t.Error("251 backends were accepted")
	}
	if err := s.Client.Sysctl("net.no.such.setting", "1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("unknown setting: got %v, want ErrNotExist", err)
	}
	_, err := s.Client.DialContext(context.Background(), "tcp", netip.AddrPortFrom(NodeIPv4, 9).String())
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("closed port: got %v, want ECONNREFUSED", err)
	}
}

// namespaceID identifies the network namespace of the calling thread.
func namespaceID(t *testing.T) string {
	t.Helper()
	id, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return id
}
