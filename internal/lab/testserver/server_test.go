package testserver

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

func newServer(t *testing.T) *Server {
	t.Helper()
	listen := func(addr netip.AddrPort) (net.Listener, error) { return net.Listen("tcp", addr.String()) }
	s, err := New(listen, netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	s.addrs[0] = netip.MustParseAddrPort(s.listeners[0].Addr().String()) // the same port after Refuse
	t.Cleanup(func() {
		for range 2 {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

func dial(t *testing.T, s *Server) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.addrs[0].String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func get(t *testing.T, s *Server, method, body string) (*http.Response, string) {
	t.Helper()
	c := dial(t, s)
	fmt.Fprintf(c, "%s / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", method, len(body), body)
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(got)
}

func TestAnswers(t *testing.T) {
	s := newServer(t)
	fake := FakeTraffic(5000)
	for _, c := range []struct {
		name      string
		behaviour Behaviour
		method    string
		request   string
		status    int
		body      string
	}{
		{"default", Behaviour{}, "GET", "", 200, ""},
		{"status", Behaviour{Status: 500, Body: []byte("broken")}, "GET", "", 500, "broken"},
		{"head", Behaviour{Status: 500, Body: []byte("broken")}, "HEAD", "", 500, ""},
		{"no content", Behaviour{Status: 204}, "GET", "", 204, ""},
		{"post", Behaviour{Body: fake}, "POST", string(fake), 200, string(fake)},
		{"chunked", Behaviour{Body: fake, Chunked: true}, "GET", "", 200, string(fake)},
		{"early", Behaviour{Status: 413, Early: true}, "POST", "x", 413, ""},
		{"delayed", Behaviour{Delay: time.Millisecond}, "GET", "", 200, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := s.Counts()
			s.Set(c.behaviour)
			resp, body := get(t, s, c.method, c.request)
			if resp.StatusCode != c.status || body != c.body {
				t.Errorf("got %d with %d bytes, want %d with %d", resp.StatusCode, len(body), c.status, len(c.body))
			}
			want := Counts{Connections: 1, Requests: 1, ByStatus: map[int]uint64{c.status: 1}}
			if !c.behaviour.Early {
				want.BodyBytes = uint64(len(c.request))
			}
			if got := s.Counts().Sub(before); !reflect.DeepEqual(got, want) {
				t.Errorf("counts %+v, want %+v", got, want)
			}
		})
	}
}

func TestInterimAndSplit(t *testing.T) {
	s := newServer(t)
	s.Set(Behaviour{Interim: []int{102, 103}, Body: []byte("done")})
	s.SetSplit(1)
	c := dial(t, s)
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	all, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	at := -1
	for _, line := range []string{"HTTP/1.1 102 Processing\r\n", "HTTP/1.1 103 Early Hints\r\n", "HTTP/1.1 200 OK\r\n", "\r\n\r\ndone"} {
		next := bytes.Index(all, []byte(line))
		if next <= at {
			t.Fatalf("no %q in its place in %q", line, all)
		}
		at = next
	}
}

// recorder is a net.Conn that remembers the sizes of writes.
type recorder struct {
	net.Conn
	sizes []int
}

func (r *recorder) Write(b []byte) (int, error) {
	r.sizes = append(r.sizes, len(b))
	return len(b), nil
}

func TestSplitSizes(t *testing.T) {
	s := &Server{}
	for _, c := range []struct {
		split, length int
		want          []int
	}{
		{0, 100, []int{100}},
		{20, 100, []int{20, 20, 20, 40}},
		{20, 50, []int{20, 20, 10}},
		{5, 3, []int{3}},
	} {
		s.SetSplit(c.split)
		r := &recorder{}
		n, err := (&conn{Conn: r, server: s}).Write(make([]byte, c.length))
		if n != c.length || err != nil || !reflect.DeepEqual(r.sizes, c.want) {
			t.Errorf("split %d of %d: wrote %d in %v (%v), want %v", c.split, c.length, n, r.sizes, err, c.want)
		}
	}
}

func TestEndings(t *testing.T) {
	s := newServer(t)
	for _, c := range []struct {
		name   string
		ending Ending
		data   string
		err    error
		want   Counts
	}{
		{"reset", EndReset, "", syscall.ECONNRESET, Counts{Resets: 1}},
		{"mid-head", EndResetMidHead, "HTTP/1.1 2", syscall.ECONNRESET, Counts{MidHeadResets: 1}},
		{"close", EndClose, "", nil, Counts{Closes: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := s.Counts()
			s.Set(Behaviour{Ending: c.ending})
			conn := dial(t, s)
			fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			data, err := io.ReadAll(conn)
			// A RST may overtake the data that lies unread before it.
			if !strings.HasPrefix(c.data, string(data)) || !errors.Is(err, c.err) {
				t.Errorf("got %q, %v; want %q, %v", data, err, c.data, c.err)
			}
			c.want.Connections, c.want.Requests, c.want.ByStatus = 1, 1, map[int]uint64{}
			if got := s.Counts().Sub(before); !reflect.DeepEqual(got, c.want) {
				t.Errorf("counts %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestHangEndsWithTheClient(t *testing.T) {
	s := newServer(t)
	s.Set(Behaviour{Ending: EndHang})
	c := dial(t, s)
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	waitFor(t, func() bool { return s.Counts().Hung == 1 })
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %d bytes, %v; want silence", n, err)
	}
	_ = c.Close()
	// Close waits for nothing that hangs.
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestDelayAbandoned(t *testing.T) {
	s := newServer(t)
	s.Set(Behaviour{Delay: time.Hour})
	c := dial(t, s)
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	waitFor(t, func() bool { return s.Counts().Requests == 1 })
	_ = c.Close()
	waitFor(t, func() bool { return s.Counts().Abandoned == 1 })
	if got := s.Counts().Answered(); got != 0 {
		t.Errorf("%d answers, want none", got)
	}
}

func TestRefuseAndAccept(t *testing.T) {
	s := newServer(t)
	if err := s.Refuse(); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", s.addrs[0].String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v, want ECONNREFUSED", err)
	}
	for range 2 {
		if err := s.Accept(); err != nil {
			t.Fatal(err)
		}
	}
	if resp, _ := get(t, s, "GET", ""); resp.StatusCode != 200 {
		t.Errorf("got %d after Accept, want 200", resp.StatusCode)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Accept(); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Accept after Close: got %v, want ErrServerClosed", err)
	}
}

func TestResetOnAccept(t *testing.T) {
	s := newServer(t)
	s.SetResetOnAccept(true)
	c, err := net.Dial("tcp", s.addrs[0].String()) // the reset may come before connect is seen to have succeeded
	if err == nil {
		_, err = io.ReadAll(c)
		_ = c.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want ECONNRESET", err)
	}
	s.SetResetOnAccept(false)
	if resp, _ := get(t, s, "GET", ""); resp.StatusCode != 200 {
		t.Errorf("got %d, want 200", resp.StatusCode)
	}
	if got := s.Counts(); got.AcceptResets != 1 || got.Connections != 2 {
		t.Errorf("%d resets of %d connections, want 1 of 2", got.AcceptResets, got.Connections)
	}
}

func TestCycle(t *testing.T) {
	d := Cycle(Part{Behaviour{Status: 200}, 2}, Part{Behaviour{Status: 500}, 1})
	got := map[int]int{}
	for n := range uint64(30) {
		b := d(nil, n)
		if (b.Status == 500) != (n%3 == 2) {
			t.Errorf("request %d: %d", n, b.Status)
		}
		got[b.Status]++
	}
	if want := map[int]int{200: 20, 500: 10}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// waitFor polls until ok or until ten seconds have passed.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
		time.Sleep(time.Millisecond)
	}
}

// A copy of the socket, which every process has that is being started, does not keep the port open.
func TestRefusesThoughTheSocketHasACopy(t *testing.T) {
	var copies []*os.File
	s, err := New(func(addr netip.AddrPort) (net.Listener, error) {
		l, err := net.Listen("tcp", addr.String())
		if err != nil {
			return nil, err
		}
		f, err := l.(*net.TCPListener).File()
		copies = append(copies, f)
		return l, err
	}, netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	at := s.listeners[0].Addr().String()
	if err := s.Refuse(); err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", at); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v, %v; want %v", c, err, syscall.ECONNREFUSED)
	}
	for _, f := range copies {
		_ = f.Close()
	}
}
