package policy

import (
	"net/netip"
	"time"

	"github.com/cbagent/cbagent/internal/answer"
	"github.com/cbagent/cbagent/internal/breaker"
)

// Set is all policies that are in force, in file order: files by name, policies as they stand in them.
type Set struct {
	Policies []*Policy
	Warnings Errors // accepted, but suspicious
	Notes    Errors // right, but its limits should be known
}

// Find returns the policy of that name, or nil.
func (s *Set) Find(name string) *Policy {
	for _, p := range s.Policies {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// Policy is one policy with everything resolved: defaults filled in, addresses parsed, enumerations typed. It is not
// changed after it was made, and two of them can be compared with Equal.
type Policy struct {
	Name           string
	Direction      Direction
	Protocol       Protocol
	Match          Match
	Exempt         Exempt
	Timeout        time.Duration // no response in this time: outcome timeout; 0 = never
	Patience       time.Duration // a client that leaves after so long is abandoned, before it aborted; 0 = always aborted
	ConnectTimeout time.Duration // no SYN-ACK in this time: outcome connect-timeout; 0 = never
	Reject         Reject
	Limits         Limits
	RateLimit      *RateLimit       // nil = off
	Breaker        breaker.Settings // also holds the policy's mode and scope
	Position       Position         // where the policy begins
}

// Direction says whose calls a policy is about.
type Direction uint8

// Directions: clients on this node; clients from elsewhere to backends on this node.
const (
	Outbound Direction = iota
	Inbound
)

// Protocol says what a call is.
type Protocol uint8

// Protocols: HTTP requests; TCP connections; gRPC calls, which are HTTP requests.
const (
	HTTP Protocol = iota
	TCP
	GRPC
)

// Requests reports whether the calls are requests, several of which may share a connection.
func (p Protocol) Requests() bool { return p != TCP }

// Match names backends. Addresses are never IPv4-mapped IPv6.
type Match struct {
	Addresses []netip.AddrPort
	CIDRs     []CIDR
	Hosts     []Host
	Services  []Service
}

// CIDR is all addresses of a prefix (host bits zero) with a port.
type CIDR struct {
	Prefix netip.Prefix
	Port   uint16
}

// Host is a DNS name, in lower case and without a trailing dot, with a port.
type Host struct {
	Host string
	Port uint16
}

// Service is a port of a Kubernetes Service, by name or number.
type Service struct {
	Namespace, Name, Port string
}

// Exempt are clients that are neither judged nor rejected.
type Exempt struct {
	NodeHealthChecks bool
	Sources          []netip.Prefix
}

// RejectWith says how a client is rejected.
type RejectWith uint8

// Ways to reject a client: a complete HTTP answer, a TCP reset, silence.
const (
	Respond RejectWith = iota
	Reset
	Drop
)

// Reject says what a client gets who is rejected.
type Reject struct {
	With       RejectWith
	Existing   bool // also on connections that are already open
	RetryAfter bool
	Answer     answer.Spec // for Respond
}

// Limits of each circuit, as this node sees it; 0 = no limit.
type Limits struct {
	MaxConnections           int
	MaxRequests              int
	MaxRequestsPerConnection int
}

// RateLimit lets through at most Burst + Limit x d / Period in any span d.
type RateLimit struct {
	Limit  int
	Period time.Duration
	Burst  int
	Status int // of the answer
}
