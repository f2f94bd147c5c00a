package proxy

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
)

// Each breaker lets good traffic pass, and keeps almost all clients from a backend that fails.
func TestBreakersOpen(t *testing.T) {
	for _, breaker := range []Breaker{Gobreaker, Failsafe, Oxy} {
		t.Run(string(breaker), func(t *testing.T) {
			var reached atomic.Int64
			var status atomic.Int64
			status.Store(200)
			backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				reached.Add(1)
				w.WriteHeader(int(status.Load()))
			}))
			defer backend.Close()
			o := Options{
				Breaker: breaker, Backend: netip.MustParseAddrPort(backend.Listener.Addr().String()),
				Timeout: 5 * time.Second, Trip: Trip{Consecutive: 5}, Open: time.Minute, Listen: free(t),
			}
			handler, err := o.handler()
			if err != nil {
				t.Fatal(err)
			}
			front := httptest.NewServer(handler)
			defer front.Close()
			if got := get(t, front.URL); got != 200 {
				t.Fatalf("got %d of a good backend", got)
			}
			status.Store(500)
			deadline := time.Now().Add(20 * time.Second)
			for got := 0; got != 503; got = get(t, front.URL) {
				if time.Now().After(deadline) {
					t.Fatal("it never opened")
				}
			}
			before := reached.Load()
			for range 20 {
				if got := get(t, front.URL); got != 503 {
					t.Errorf("got %d while open", got)
				}
			}
			if reached.Load() != before {
				t.Errorf("%d requests reached the backend while open", reached.Load()-before)
			}
		})
	}
}

func TestRunServes(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {}))
	defer backend.Close()
	ctx, cancel := context.WithCancel(context.Background())
	o := Options{
		Breaker: Gobreaker, Listen: free(t), Backend: netip.MustParseAddrPort(backend.Listener.Addr().String()),
		Timeout: 5 * time.Second, Trip: Trip{Consecutive: 5}, Open: time.Second,
	}
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, o) }()
	deadline := time.Now().Add(10 * time.Second)
	for {
		resp, err := http.Get("http://" + o.Listen.String())
		if err == nil {
			_ = resp.Body.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func free(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return netip.MustParseAddrPort(l.Addr().String())
}

func get(t *testing.T, url string) int {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}
