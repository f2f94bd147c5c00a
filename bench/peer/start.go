package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cbagent/cbagent/bench/peer/proxy"
	"github.com/cbagent/cbagent/internal/lab/agentproc"
	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// Kind says what stands between clients and backend.
type Kind string

// Kinds.
const (
	Direct    Kind = "direct" // nothing
	Cbagent   Kind = "cbagent"
	HAProxy   Kind = "haproxy"
	Nginx     Kind = "nginx"
	Gobreaker Kind = "gobreaker"
	Failsafe  Kind = "failsafe-go"
	Oxy       Kind = "oxy"
)

// Peer is what was started.
type Peer struct {
	Kind   Kind
	Target netip.AddrPort     // where clients send their requests
	Pids   []int              // its processes' ids; their children belong to it
	Agent  *agentproc.Process // of cbagent
	stop   func()
}

// Ended returns why cbagent has ended by itself, with what it said last; nil while it runs, and for other peers.
func (p *Peer) Ended() error {
	if p.Agent == nil {
		return nil
	}
	select {
	case <-p.Agent.Ended():
		return p.Agent.Complaint("the agent ended by itself")
	default:
		return nil
	}
}

// Missing returns why a peer cannot be had on this machine, nil if it can.
func Missing(k Kind) error {
	binary := map[Kind]string{HAProxy: "haproxy", Nginx: "nginx"}[k]
	if binary == "" {
		return nil
	}
	if _, err := exec.LookPath(binary); err != nil {
		return fmt.Errorf("%s: %w: scripts/setup.sh bench installs it", k, err)
	}
	return nil
}

// Settings are what a peer is configured with, as near as each can be brought to them.
type Settings struct {
	Trip    proxy.Trip
	Open    time.Duration // how long to keep clients away before the next try
	Timeout time.Duration // of connecting, and of an answer; 0 = 30 s
	Answer  int           // if not 0, every request is rejected with this status and the body below, or the message
	GRPC    bool          // clients and backend speak gRPC in clear text, and Answer is a grpc-status (of cbagent, HAProxy and nginx)
	Close   bool          // close the client's connection after each answer (of nginx)

	// Backends of cbagent's policy, if not the site's first alone.
	Backends []netip.AddrPort
	// Policy, if set, are lines of a policy (after name and match) in place of those that follow from the above.
	Policy []string
	// Connect makes cbagent reject clients at connect(), in a cgroup of their own.
	Connect bool
	// Flags of cbagent.
	Flags []string
	// HAProxyServer, if set, are words of the server line in place of those that follow from the above.
	HAProxyServer string
	// HAProxyFront is another line of its front.
	HAProxyFront string
	// HAProxyTimeouts, if set, are lines in place of those that follow from the above.
	HAProxyTimeouts string
}

// RejectionBody is what a client reads who is rejected, the same of all peers.
const RejectionBody = `{"error":"circuit open"}`

// RejectionMessage is the same of gRPC.
const RejectionMessage = "circuit open"

func (o Settings) timeout() time.Duration {
	if o.Timeout == 0 {
		return 30 * time.Second
	}
	return o.Timeout
}

// Start starts a peer for the site's first backend and returns when it serves.
func (s *Site) Start(k Kind, o Settings) (*Peer, error) {
	if err := Missing(k); err != nil {
		return nil, err
	}
	switch k {
	case Direct:
		return &Peer{Kind: k, Target: s.Backend(0), stop: func() {}}, nil
	case Cbagent:
		return s.startAgent(o)
	case HAProxy:
		path, err := s.file("haproxy.cfg", haproxyConfig(s.front(), s.Backend(0), o))
		if err != nil {
			return nil, err
		}
		return s.startProxy(k, "haproxy", "-db", "-f", path)
	case Nginx:
		path, err := s.file("nginx.conf", nginxConfig(s.front(), s.Backend(0), o))
		if err != nil {
			return nil, err
		}
		return s.startProxy(k, "nginx", "-e", "stderr", "-p", s.folder, "-c", path)
	}
	argument, err := json.Marshal(proxy.Options{
		Breaker: proxy.Breaker(k), Listen: s.front(), Backend: s.Backend(0),
		Timeout: o.timeout(), Trip: o.Trip, Open: o.Open,
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", k, err)
	}
	return s.startProxy(k, s.bench.Self, "child", "proxy", string(argument))
}

func (s *Site) front() netip.AddrPort { return netip.AddrPortFrom(netlab.NodeIPv4, frontPort) }

func (s *Site) startProxy(k Kind, command ...string) (*Peer, error) {
	p, err := s.start(s.Node, string(k), command...)
	if err != nil {
		return nil, err
	}
	if err := awaitPort(s.Client, s.front(), p); err != nil {
		return nil, err
	}
	return &Peer{Kind: k, Target: s.front(), Pids: []int{p.cmd.Process.Pid}, stop: p.stop}, nil
}

// startAgent attaches cbagent to all of the node's interfaces, as it is on a Kubernetes node.
func (s *Site) startAgent(o Settings) (*Peer, error) {
	backends := o.Backends
	if backends == nil {
		backends = []netip.AddrPort{s.Backend(0)}
	}
	path, err := s.file("policy.yaml", PolicyFile(o, backends...))
	if err != nil {
		return nil, err
	}
	flags := o.Flags
	if o.Connect {
		cgroup, err := s.cgroup()
		if err != nil {
			return nil, err
		}
		flags = append(slices.Clone(flags), "--connect-cgroup", cgroup)
	}
	return s.StartAgentWith(path, flags...)
}

// StartAgentWith starts cbagent with a policy file of the client's.
func (s *Site) StartAgentWith(policy string, flags ...string) (*Peer, error) {
	command := append([]string{
		s.bench.Agent, "run", "--policy", policy, "--interface", "cl*", "--interface", "be*",
		// Several agents run at once.
		"--state-dir", filepath.Join(s.folder, "state"), "--control-socket", "",
	}, flags...)
	agent, err := agentproc.Start(s.Node, command...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*startsWithin)
	defer cancel()
	if err := agent.AwaitReady(ctx); err != nil {
		return nil, errors.Join(err, agent.Stop())
	}
	p := &Peer{Kind: Cbagent, Target: s.Backend(0), Pids: []int{agent.Pid()}, Agent: agent}
	stopped := false
	p.stop = func() {
		if !stopped {
			stopped = true
			_ = agent.Stop() // how it ends is the tests' business
		}
	}
	s.OnClose(func() error { p.stop(); return nil })
	return p, nil
}

// PolicyFile returns a policy for backends.
func PolicyFile(o Settings, backends ...netip.AddrPort) string {
	var b strings.Builder
	b.WriteString("version: 1\npolicies:\n- name: bench\n  match:\n    addresses:\n")
	for _, at := range backends {
		fmt.Fprintf(&b, "    - %q\n", at)
	}
	lines := o.Policy
	if lines == nil {
		lines = o.policy()
	}
	for _, line := range lines {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	return b.String()
}

// policy says the settings in cbagent's words.
func (o Settings) policy() []string {
	if o.Answer != 0 && o.GRPC {
		return []string{"protocol: grpc", "mode: forced-open", fmt.Sprintf("reject: {grpcStatus: %d, message: '%s'}", o.Answer, RejectionMessage)}
	}
	if o.Answer != 0 {
		return []string{"mode: forced-open", fmt.Sprintf("reject: {status: %d, body: '%s'}", o.Answer, RejectionBody)}
	}
	lines := []string{
		fmt.Sprintf("outcome: {timeout: %s, connectTimeout: %s}", o.timeout(), min(o.timeout(), 3*time.Second)),
		"halfOpen: {calls: 1}",
	}
	if o.GRPC {
		lines = append(lines, "protocol: grpc")
	}
	if o.Trip.Consecutive > 0 {
		lines = append(lines, fmt.Sprintf("trip: [{consecutiveFailures: %d}]", o.Trip.Consecutive))
	} else if o.Trip.Rate > 0 {
		lines = append(lines, fmt.Sprintf("trip: [{all: [{minCalls: %d}, {failureRate: %g}]}]", o.Trip.MinCalls, o.Trip.Rate))
	}
	if o.Open > 0 {
		lines = append(lines, fmt.Sprintf("open: {duration: %s, backoff: none}", o.Open))
	}
	return lines
}
