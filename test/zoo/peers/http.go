package main

//lint:file-ignore SA1019 net/http has no Upgrade, and most programs with prior knowledge still use the transport of x/net.

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/h2c"
)

// netHTTPClient is the client of Go's standard library, with prior knowledge.
func netHTTPClient(ctx context.Context, o options) error {
	transport := &http.Transport{Protocols: &http.Protocols{}, DisableCompression: true}
	transport.Protocols.SetUnencryptedHTTP2(true)
	return httpClient(ctx, o, transport)
}

// xNetClient is the client of golang.org/x/net, with prior knowledge.
func xNetClient(ctx context.Context, o options) error {
	transport := &http2.Transport{
		AllowHTTP: true,
		DialTLSContext: func(ctx context.Context, network, address string, _ *tls.Config) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}
	return httpClient(ctx, o, transport)
}

func httpClient(ctx context.Context, o options, transport http.RoundTripper) error {
	client := &http.Client{Transport: transport}
	return work(ctx, o, func(ctx context.Context, do order) call { return request(ctx, client, o, do) })
}

// xNetServer speaks HTTP/2 with prior knowledge and after an Upgrade, and HTTP/1.
func xNetServer(_ context.Context, o options) error {
	listener, err := net.Listen("tcp", o.address)
	if err != nil {
		return err
	}
	counts := newTally()
	handler := h2c.NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w, r, counts) }), &http2.Server{})
	server := &http.Server{Handler: handler}
	defer func() { _ = server.Close() }()
	go func() { _ = server.Serve(listener) }() // ends with the server
	return control(counts.all)
}

// answer does what an order says.
func answer(w http.ResponseWriter, r *http.Request, counts *tally) {
	do := parseOrder(r.URL.Path[1:])
	_, _ = io.Copy(io.Discard, r.Body) // a client that is gone is noticed below
	if do.numbers["hang"] != 0 {
		<-r.Context().Done()
	}
	if pause(r.Context(), do.duration("delay")) != nil || r.Context().Err() != nil {
		counts.add("gone")
		return
	}
	if _, ok := do.numbers["reset"]; ok {
		counts.add(fmt.Sprintf("reset-%d", http2.ErrCodeInternal))
		panic(http.ErrAbortHandler) // the only code that this server can send
	}
	if do.numbers["goaway"] != 0 {
		w.Header().Set("Connection", "close") // becomes GOAWAY
	}
	code := do.number("status", http.StatusOK)
	counts.add(fmt.Sprint(code))
	size := do.numbers["size"]
	w.Header().Set("Content-Length", fmt.Sprint(size))
	w.WriteHeader(code)
	_, _ = w.Write(bytes.Repeat([]byte("a"), size)) // a client that is gone has its status
}
