package wire

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

// cleartext are HTTP/2 without TLS, with prior knowledge.
func cleartext() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

// More calls than fit the window that a server grants at first, if it grants nothing more.
func TestCallsAreAnswered(t *testing.T) {
	at := startWith(t, ListenGRPC)
	for name, keep := range map[string]bool{"kept": true, "new": false} {
		t.Run(name, func(t *testing.T) {
			const calls = 10_000
			r, err := Load{Target: at, Clients: 2, For: 30 * time.Second, Requests: calls, KeepOpen: keep, GRPC: true}.Run()
			if err != nil {
				t.Fatal(err)
			}
			connections := map[bool]int{true: 2, false: calls}[keep]
			if r.Requests != calls || r.ByStatus[0] != calls || r.Failed() != 0 || r.Connected > connections {
				t.Errorf("got %+v, want %d answers with status 0 over at most %d connections", r, calls, connections)
			}
		})
	}
}

// Another server's answers: trailers without a message, Huffman codes, SETTINGS and PINGs of its own.
func TestCallerReadsOtherServers(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Protocols: cleartext(), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err != nil || !bytes.Equal(body, message) || r.Header.Get("Content-Type") != "application/grpc" {
			t.Errorf("the server reads %q of %v, %v", body, r.Header, err)
		}
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", "14")
		w.Header().Set("Grpc-Message", "circuit open")
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	r, err := Load{Target: netip.MustParseAddrPort(l.Addr().String()), Clients: 2, For: 30 * time.Second, Requests: 100, KeepOpen: true, GRPC: true}.Run()
	if err != nil {
		t.Fatal(err)
	}
	if r.ByStatus[14] != 100 || r.Connected > 2 {
		t.Errorf("got %+v, want 100 answers with status 14", r)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != http.ErrServerClosed {
		t.Error(err)
	}
}

// Another client reads our server's answers.
func TestServerSpeaksGRPC(t *testing.T) {
	at := startWith(t, ListenGRPC)
	client := &http.Client{Transport: &http.Transport{Protocols: cleartext()}, Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	for range 3 {
		resp, err := client.Post("http://"+at.String()+"/any", "application/grpc", bytes.NewReader(message))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || !bytes.Equal(body, message) || resp.StatusCode != 200 || resp.Trailer.Get("Grpc-Status") != "0" {
			t.Errorf("got %d with %q, trailers %v, %v", resp.StatusCode, body, resp.Trailer, err)
		}
	}
}
