//go:build zoo

package zoo

import (
	"path/filepath"
	"slices"
	"strings"
)

// client is a kind of client. peers/main.go describes the arguments and the output that all of them have in common.
type client struct {
	name    string
	command []string
	grpc    bool
	upgrade bool // asks for HTTP/2 by an Upgrade, and is content with HTTP/1
	bodies  bool // shows the responses' bodies, headers and errors
	one     bool // carries out only the first order
	lives   bool // keeps its connection between calls, and takes another one at a GOAWAY without losing calls
	posts   bool // sends bodies
	once    bool // repeats no call, or a refused one at once
	cancels bool // can cancel a call and go on
	batches int  // starts a process for each at-once calls, so often at most; 0: makes all calls with one
}

// server is a kind of server.
type server struct {
	name    string
	command []string
	grpc    bool
	http    bool
	upgrade bool
	orders  []string // that it can carry out, of those with HTTP
	posts   bool     // accepts requests with a body
}

var (
	built  = func(name string) string { return filepath.Join(builtPeers, name) }
	source = func(name string) string { return filepath.Join("peers", name) }
)

func goPeer(name string) []string      { return []string{built("peers"), name} }
func nodePeer(args ...string) []string { return append([]string{"node", source(args[0])}, args[1:]...) }

// pythonPeer is run by the distribution's Python, which has the distribution's packages.
func pythonPeer(name string) []string { return []string{"/usr/bin/python3", source("client.py"), name} }

func clients() []client {
	return []client{
		{name: "grpc-go", command: goPeer("grpc-go"), grpc: true, bodies: true, lives: true, posts: true, once: true, cancels: true},
		{name: "grpc-core", command: pythonPeer("grpc-core"), grpc: true, bodies: true, lives: true, posts: true, once: true, cancels: true},
		{name: "grpc-js", command: nodePeer("client.js", "grpc-js"), grpc: true, bodies: true, lives: true, posts: true, once: true, cancels: true},
		{name: "net-http", command: goPeer("net-http"), bodies: true, lives: true, posts: true, cancels: true},
		{name: "x-net", command: goPeer("x-net"), bodies: true, lives: true, posts: true, cancels: true},
		{name: "node", command: nodePeer("client.js", "node"), bodies: true, lives: true, posts: true, once: true, cancels: true},
		// After a GOAWAY all further calls fail, because it keeps the connection.
		{name: "httpx", command: pythonPeer("httpx"), bodies: true, posts: true, once: true},
		{name: "curl", command: goPeer("curl"), bodies: true, posts: true},
		{name: "nghttp", command: goPeer("nghttp"), one: true, posts: true, batches: 100},
		{name: "h2load", command: goPeer("h2load"), one: true, posts: true},
		{name: "curl-upgrade", command: goPeer("curl-upgrade"), upgrade: true, bodies: true, posts: true},
		{name: "nghttp-upgrade", command: goPeer("nghttp-upgrade"), upgrade: true, one: true, batches: 100},
		// At a GOAWAY all calls fail that are in flight, and those that have just been answered.
		{name: "jdk", command: []string{"java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", builtPeers, "Client"}, upgrade: true, bodies: true, posts: true, cancels: true},
	}
}

// Orders with HTTP.
var (
	fileOrders   = []string{"size=0", "size=3000", "size=1", "size=300000"}
	statusOrders = []string{"status=404,size=1", "status=503,size=1"}
	ownOrders    = []string{"status=500,size=100", "delay=20", "hang=1,cancel=250", "reset=2"}
)

func servers() []server {
	return []server{
		{name: "grpc-go", command: goPeer("grpc-go-server"), grpc: true},
		{name: "node", command: nodePeer("server.js"), grpc: true, http: true, orders: slices.Concat(fileOrders, statusOrders, ownOrders), posts: true},
		{name: "x-net", command: goPeer("x-net-server"), http: true, upgrade: true, orders: slices.Concat(fileOrders, statusOrders, ownOrders), posts: true},
		{name: "nginx", command: goPeer("nginx-server"), http: true, orders: slices.Concat(fileOrders, statusOrders)},
		{name: "nghttpd", command: goPeer("nghttpd-server"), http: true, orders: fileOrders},
	}
}

// grpcOrders are carried out by all gRPC servers.
var grpcOrders = []string{
	"size=0", "size=3000", "size=300000", "delay=20", "code=14", "code=5,size=10", // unary
	"count=3,size=10", "count=3,size=10,code=13", "count=3,gap=10,size=3000", "count=0", "count=0,code=14", // streams
	"hang=1,deadline=250", "hang=1,cancel=250", "hang=1,count=1,cancel=250", "count=2,size=10,stall=1,cancel=250",
}

// suits reports whether a client and a server speak the same.
func (c client) suits(s server) bool {
	if c.grpc {
		return s.grpc
	}
	return s.http && (!c.upgrade || s.upgrade)
}

// kind returns a kind of server.
func kind(name string) server {
	all := servers()
	return all[slices.IndexFunc(all, func(s server) bool { return s.name == name })]
}

// kind returns a kind of server that suits the client.
func (c client) kind() server {
	if c.grpc {
		return kind("grpc-go")
	}
	return kind("x-net")
}

// orders returns what a client can have a server do.
func (c client) orders(s server) []string {
	switch {
	case c.grpc:
		return grpcOrders
	case c.one:
		return s.orders[1:2]
	case !c.cancels:
		return slices.DeleteFunc(slices.Clone(s.orders), func(do string) bool { return strings.Contains(do, "hang") })
	}
	return s.orders
}
