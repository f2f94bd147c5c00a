package packets

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/cbagent/cbagent/bench/part"
	"github.com/cbagent/cbagent/bench/peer"
	"github.com/cbagent/cbagent/bench/usage"
	"github.com/cbagent/cbagent/bench/wire"
)

// programs are those that packets meet.
type programs struct {
	egress, ingress, empty *ebpf.Program
}

func (p *programs) close() {
	for _, one := range []*ebpf.Program{p.egress, p.ingress, p.empty} {
		if one != nil {
			_ = one.Close()
		}
	}
}

// next is what programs return for packets that are none of theirs.
const next = -1

// openPrograms takes the programs from a running agent.
func openPrograms(pid int) (p *programs, err error) {
	p = &programs{}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	p.empty, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "bench_empty", Type: ebpf.SchedCLS, License: "Dual MIT/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, next), asm.Return()},
	})
	if err != nil {
		return p, fmt.Errorf("load an empty program: %w", err)
	}
	err = usage.EachProgram(pid, func(name string, program *ebpf.Program) error {
		for want, slot := range map[string]**ebpf.Program{"egress": &p.egress, "ingress": &p.ingress} {
			if name == want {
				kept, err := program.Clone()
				if err != nil {
					return fmt.Errorf("keep program %s: %w", name, err)
				}
				*slot = kept
			}
		}
		return nil
	})
	if err == nil && (p.egress == nil || p.ingress == nil) {
		err = errors.New("the agent holds no programs named egress and ingress")
	}
	return p, err
}

// class is a kind of packet and the program that it is put to.
type class struct {
	name    string
	program *ebpf.Program
	packet  wire.Segment
	returns int32
}

// runClasses puts each class to its program.
func runClasses(ctx context.Context, r *part.Run) (err error) {
	site, err := r.Bench.NewSite(1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	agent, err := site.Start(peer.Cbagent, peer.Settings{})
	if err != nil {
		return err
	}
	p, err := openPrograms(agent.Agent.Pid())
	if err != nil {
		return err
	}
	defer p.close()

	client, backend := netip.MustParseAddrPort("10.20.0.2:40000"), site.Backend(0)
	other := netip.AddrPortFrom(backend.Addr(), 81)
	sibling := netip.AddrPortFrom(netip.MustParseAddr("10.99.0.1"), backend.Port())
	const request = "GET / HTTP/1.1\r\nHost: bench\r\n\r\n"
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	sent, got := uint32(1001+len(request)), uint32(5001+len(answer))
	// A connection with a request that was answered, so that its packets are known.
	for _, one := range []class{
		{"SYN", p.egress, wire.Segment{From: client, To: backend, Flags: wire.SYN, Seq: 1000}, next},
		{"SYN-ACK", p.ingress, wire.Segment{From: backend, To: client, Flags: wire.SYN | wire.ACK, Seq: 5000, Ack: 1001}, next},
		{"request", p.egress, wire.Segment{From: client, To: backend, Flags: wire.PSH | wire.ACK, Seq: 1001, Ack: 5001, Payload: request}, next},
		{"answer", p.ingress, wire.Segment{From: backend, To: client, Flags: wire.PSH | wire.ACK, Seq: 5001, Ack: sent, Payload: answer}, next},
	} {
		if _, err := one.run(1); err != nil {
			return err
		}
	}
	classes := []class{
		{"port not watched, to", p.egress, wire.Segment{From: client, To: other, Flags: wire.ACK, Seq: 1, Ack: 1}, next},
		{"port not watched, from", p.ingress, wire.Segment{From: other, To: client, Flags: wire.ACK, Seq: 1, Ack: 1}, next},
		{"port watched, no backend, to", p.egress, wire.Segment{From: client, To: sibling, Flags: wire.ACK, Seq: 1, Ack: 1}, next},
		{"pure ACK, to a backend", p.egress, wire.Segment{From: client, To: backend, Flags: wire.ACK, Seq: sent, Ack: got}, next},
		{"pure ACK, from a backend", p.ingress, wire.Segment{From: backend, To: client, Flags: wire.ACK, Seq: got, Ack: sent}, next},
	}
	repeat := uint32(200_000)
	if r.Quick {
		repeat = 20_000
	}
	for round := range r.Rounds {
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, c := range part.Turn(classes, round) {
			// The empty program right before: what differs is the program alone.
			empty := c
			empty.program = p.empty
			least, err := empty.run(repeat)
			if err != nil {
				return err
			}
			took, err := c.run(repeat)
			if err != nil {
				return err
			}
			r.Add(c.name, string(peer.Cbagent), round, map[string]float64{"ns": took, "empty_ns": least, "added_ns": took - least})
		}
	}
	return nil
}

// batches of a run. The best counts: in the others somebody else had the core for a while.
const batches = 20

// run puts the packet to the program so many times, and returns the nanoseconds of one. The kernel's own account of them
// knows whole nanoseconds only, so the clock is read around the call.
func (c class) run(repeat uint32) (float64, error) {
	each := int(max(1, repeat/batches))
	best := math.Inf(1)
	for done := 0; done < int(repeat); done += each {
		began := time.Now()
		got, _, err := c.program.Benchmark(c.packet.Bytes(), each, nil)
		took := time.Since(began)
		if err != nil {
			return 0, fmt.Errorf("put %s to the program: %w", c.name, err)
		}
		if int32(got) != c.returns {
			return 0, fmt.Errorf("of %s the program returned %d, not %d", c.name, int32(got), c.returns)
		}
		best = min(best, float64(took.Nanoseconds())/float64(each))
	}
	return best, nil
}
