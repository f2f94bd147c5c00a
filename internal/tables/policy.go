package tables

import (
	"fmt"
	"time"

	"github.com/cbagent/cbagent/internal/bpf"
)

// Protocol is the application protocol of a backend's connections.
type Protocol uint8

// Protocols.
const (
	HTTP = Protocol(bpf.CProtocolPROTOCOL_HTTP)
	TCP  = Protocol(bpf.CProtocolPROTOCOL_TCP)
)

// Reject is what a rejected client gets.
type Reject uint8

// Ways to reject a client.
const (
	Respond     = Reject(bpf.CRejectREJECT_RESPOND)
	Reset       = Reject(bpf.CRejectREJECT_RESET)
	Drop        = Reject(bpf.CRejectREJECT_DROP)
	rejectCount = int(bpf.CRejectREJECT_MAX)
)

// PolicySettings are the settings of a policy for the programs.
type PolicySettings struct {
	Failure        [16]uint64    // bit r%64 of word r/64: result r is a failure
	Ignore         [16]uint64    // ... is not judged
	Slow           time.Duration // a success that took longer is slow; 0: nothing is
	Timeout        time.Duration // of a request; 0: none
	ConnectTimeout time.Duration // of a SYN; 0: none
	Patience       time.Duration // a client that leaves after it is `abandoned`, before it `aborted`; 0: always `aborted`
	Direction      Direction
	Protocol       Protocol
	Reject         Reject
	Existing       bool // also reject requests on connections that are open already
	Every          bool // send every outcome through the ring
	ExemptNode     bool // the node's health checks of its own pods are exempt
	ExemptSome     bool // SetExemptSources names clients

	MaxConnections           uint32 // of a backend at once; 0: no limit
	MaxRequests              uint32 // of a backend at once; 0: no limit
	MaxRequestsPerConnection uint32 // 0: no limit
	RateLimit                int    // admissions in RatePeriod; 0: no limit
	RatePeriod               time.Duration
	RateBurst                int // admissions at once; at least 1 with RateLimit

	Answers      [Rejections]int // HTTP/1.x: index of PutAnswer for each rejection; negative: none, the client gets a reset
	HTTP2Answers [Rejections]int // the same for HTTP/2
	GRPCAnswers  [Rejections]int // the same for gRPC
}

// NoAnswers returns indexes of answers of a policy that has none.
func NoAnswers() (none [Rejections]int) {
	for i := range none {
		none[i] = -1
	}
	return none
}

// noAnswer is the index of no answer.
const noAnswer = 0xffffffff

// PutPolicy writes a policy at an index that no circuit uses.
func (t *Tables) PutPolicy(index int, s PolicySettings) error {
	if index < 0 || index >= len(t.policies.vals) {
		return fmt.Errorf("policy %d: the table has %d places: raise --max-policies", index, len(t.policies.vals))
	}
	t.policies.vals[index] = s.compile(index)
	return nil
}

func (s *PolicySettings) compile(index int) bpf.CPolicy {
	p := bpf.CPolicy{
		Failure: s.Failure, Ignore: s.Ignore,
		Slow: uint64(s.Slow), Timeout: uint64(s.Timeout), ConnectTimeout: uint64(s.ConnectTimeout), Patience: uint64(s.Patience),
		MaxConnections: s.MaxConnections, MaxRequests: s.MaxRequests, MaxRequestsPerConnection: s.MaxRequestsPerConnection,
		Direction: uint8(s.Direction), Protocol: uint8(s.Protocol), Reject: uint8(s.Reject), Existing: boolByte(s.Existing),
		Id: uint32(index),
	}
	if s.RateLimit > 0 {
		// Rounded up: a shorter interval would admit more than the limit.
		p.RateInterval = (uint64(s.RatePeriod) + uint64(s.RateLimit) - 1) / uint64(s.RateLimit)
		p.RateBurst = uint64(s.RateBurst-1) * p.RateInterval
	}
	for flag, on := range map[bpf.CPolicyFlag]bool{
		bpf.CPolicyFlagPOLICY_EVERY: s.Every, bpf.CPolicyFlagPOLICY_EXEMPT_SOURCES: s.ExemptSome,
		bpf.CPolicyFlagPOLICY_EXEMPT_NODE: s.ExemptNode,
	} {
		if on {
			p.Flags |= uint32(flag)
		}
	}
	p.Answers, p.Http2Answers, p.GrpcAnswers = indexes(s.Answers), indexes(s.HTTP2Answers), indexes(s.GRPCAnswers)
	return p
}

func indexes(answers [Rejections]int) (all [Rejections]uint32) {
	for i, a := range answers {
		all[i] = noAnswer
		if a >= 0 {
			all[i] = uint32(a)
		}
	}
	return all
}

func boolByte(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}
