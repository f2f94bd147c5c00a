package loader

import (
	"fmt"
	"time"

	"github.com/cbagent/cbagent/internal/bpf"
)

// Protocol is what is spoken on a backend's connections.
type Protocol uint8

// Protocols.
const (
	HTTP = Protocol(bpf.CProtocolPROTOCOL_HTTP)
	TCP  = Protocol(bpf.CProtocolPROTOCOL_TCP)
)

// Reject is what a client gets who is rejected.
type Reject uint8

// Ways to reject a client.
const (
	Respond    = Reject(bpf.CRejectREJECT_RESPOND)
	Reset      = Reject(bpf.CRejectREJECT_RESET)
	Drop       = Reject(bpf.CRejectREJECT_DROP)
	rejectMax  = int(bpf.CRejectREJECT_MAX)
	noAnswer   = 0xffffffff
	answerMax  = int(bpf.CSizeANSWER_MAX)
	retryWidth = int(bpf.CSizeRETRY_DIGITS)
)

// PolicySettings are what the programs need to know of a policy.
type PolicySettings struct {
	ID             uint32 // any number that stays the same over reloads, for SetExemptSources
	Failure        [16]uint64
	Ignore         [16]uint64
	Slow           time.Duration // 0 = nothing is slow
	Timeout        time.Duration // 0 = never
	ConnectTimeout time.Duration // 0 = never
	Patience       time.Duration // a client that leaves after so long is `abandoned`, before it `aborted`; 0 = always `aborted`
	Direction      Direction
	Protocol       Protocol
	Reject         Reject
	Existing       bool
	Every          bool // send every outcome through the ring
	ExemptNode     bool // the node's health checks of its own pods are exempt
	ExemptSome     bool // SetExemptSources names clients

	MaxConnections           uint32 // 0 = no limit, as the next two
	MaxRequests              uint32
	MaxRequestsPerConnection uint32
	RateLimit                int           // permissions in RatePeriod, 0 = no limit
	RatePeriod               time.Duration // > 0 with RateLimit
	RateBurst                int           // >= 1 with RateLimit

	Answers [Rejections]int // index of PutAnswer for each rejection; negative: none, the client gets a reset
}

// PutPolicy writes a compiled policy at an index that no circuit uses.
func (d *Datapath) PutPolicy(index int, s PolicySettings) error {
	if index < 0 || index >= len(d.policies.vals) {
		return fmt.Errorf("policy %d: the table has %d places: raise --max-policies", index, len(d.policies.vals))
	}
	p := bpf.CPolicy{
		Failure: s.Failure, Ignore: s.Ignore,
		Slow: uint64(s.Slow), Timeout: uint64(s.Timeout), ConnectTimeout: uint64(s.ConnectTimeout), Patience: uint64(s.Patience),
		MaxConnections: s.MaxConnections, MaxRequests: s.MaxRequests,
		MaxRequestsPerConnection: s.MaxRequestsPerConnection,
		Direction:                uint8(s.Direction), Protocol: uint8(s.Protocol), Reject: uint8(s.Reject),
		Existing: boolByte(s.Existing), Id: s.ID,
	}
	if s.RateLimit > 0 {
		// Rounded up, so that never more than the limit is let through.
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
	for i, a := range s.Answers {
		p.Answers[i] = noAnswer
		if a >= 0 {
			p.Answers[i] = uint32(a)
		}
	}
	d.policies.vals[index] = p
	return nil
}

// Answer is a rendered HTTP answer.
type Answer struct {
	Bytes   []byte // headers and body, at most 1,200
	HeadLen int    // length of the headers: what HEAD gets
	RetryAt int    // even offset of eight bytes that take the seconds of Retry-After; negative: none
	Status  int
}

// PutAnswer writes an answer at an index that no policy uses.
func (d *Datapath) PutAnswer(index int, a Answer) error {
	if index < 0 || index >= len(d.answers.vals) {
		return fmt.Errorf("answer %d: the table has %d places", index, len(d.answers.vals))
	}
	if len(a.Bytes) > answerMax || a.HeadLen > len(a.Bytes) || a.HeadLen <= 0 {
		return fmt.Errorf("answer of %d bytes, %d of headers: at most %d fit one packet", len(a.Bytes), a.HeadLen, answerMax)
	}
	v := bpf.CAnswer{
		Len: uint32(len(a.Bytes)), HeadLen: uint32(a.HeadLen), Status: uint32(a.Status),
		Sum: onesSum(a.Bytes), HeadSum: onesSum(a.Bytes[:a.HeadLen]),
	}
	if a.RetryAt > 0 {
		if a.RetryAt%2 != 0 || a.RetryAt+retryWidth > a.HeadLen {
			return fmt.Errorf("answer with Retry-After at %d: must be even and within the headers", a.RetryAt)
		}
		v.RetryAt = uint32(a.RetryAt)
	}
	copy(v.Bytes[:], a.Bytes)
	d.answers.vals[index] = v
	return nil
}

// onesSum is the one's complement sum of 16-bit words in the machine's byte order, as RFC 1071 allows.
func onesSum(b []byte) uint32 {
	var sum uint64
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint64(b[i]) | uint64(b[i+1])<<8
	}
	if len(b)%2 == 1 {
		sum += uint64(b[len(b)-1])
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint32(sum)
}

func boolByte(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}
