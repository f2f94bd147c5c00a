// Command peers has the clients and servers of the zoo that are written in Go or are command-line tools.
//
//	peers PEER KEY=VALUE...
//
// All peers, also those in other languages beside this file, have the same interface.
//
// A client makes calls and prints each as one line of JSON when it has ended (type call). Its keys:
//
//	address   of the server, IP:port
//	calls     how many; 0: until standard input ends
//	at-once   how many calls at a time, on one connection; default 1
//	pause     between two calls of the same worker, in milliseconds; default 0
//	body      size of the request, in bytes; default 0
//	method    of HTTP; default GET, or POST if there is a body
//	do        orders to the server, joined by +; call n has order n modulo their number. An order is a path.
//
// A server prints {"ready":true} when it listens on its only key, address. For each line of its standard input it prints
// {"counts":{RESULT:N,...}}: how its calls have ended. It ends with its standard input.
//
// An order is a list of KEY=NUMBER, joined by commas:
//
//	size      of the response, or of each of its messages, in bytes
//	delay     before the response, in milliseconds
//	status    of HTTP; default 200
//	code      of gRPC; default 0
//	count     server streaming: how many messages; default: a unary call
//	gap       between these messages, in milliseconds
//	reset     RST_STREAM with this code in place of the response
//	hang      with 1, no response until the client has ended the call
//	stall     with 1, no end of the stream of messages until the client has ended the call
//	goaway    with 1, GOAWAY after the response
//	deadline  the client gives the call so many milliseconds
//	cancel    the client cancels the call after so many milliseconds
//
// Results are statuses ("200"), gRPC codes ("grpc-14"), RST_STREAM with its code ("reset-8"), and "gone": the client has
// ended the call.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
)

// peers are the peers by name; each returns when its work is done.
var peers = map[string]func(context.Context, options) error{
	"grpc-go":        grpcClient,
	"net-http":       netHTTPClient,
	"x-net":          xNetClient,
	"curl":           curlClient,
	"curl-upgrade":   curlUpgradeClient,
	"nghttp":         nghttpClient,
	"nghttp-upgrade": nghttpUpgradeClient,
	"h2load":         h2loadClient,

	"grpc-go-server": grpcServer,
	"x-net-server":   xNetServer,
	"nginx-server":   nginxServer,
	"nghttpd-server": nghttpdServer,
}

func main() {
	// A tool that a peer has started gets a signal when the thread that started it ends: this one ends last.
	runtime.LockOSThread()
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("name a peer")
	}
	peer, ok := peers[args[0]]
	if !ok {
		return fmt.Errorf("no peer %q", args[0])
	}
	o, err := parseOptions(args[1:])
	if err != nil {
		return err
	}
	return peer(context.Background(), o)
}

// inputEnds returns a channel that is closed when standard input has ended.
func inputEnds() <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // an error is an end as well
		close(ended)
	}()
	return ended
}
