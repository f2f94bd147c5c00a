package packets

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"

	"github.com/cbagent/cbagent/bench/part"
	"github.com/cbagent/cbagent/bench/peer"
	"github.com/cbagent/cbagent/bench/usage"
	"github.com/cbagent/cbagent/bench/wire"
)

// runPrograms tells how large the programs are, and how long each runs while one client sends requests, by the kernel's
// accounts.
func runPrograms(ctx context.Context, r *part.Run) (err error) {
	site, err := r.Bench.NewSite(1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	if err := site.ServeWire(0); err != nil {
		return err
	}
	p, err := site.Start(peer.Cbagent, peer.Settings{})
	if err != nil {
		return err
	}
	pid := p.Agent.Pid()
	err = usage.EachProgram(pid, func(name string, program *ebpf.Program) error {
		info, err := program.Info()
		if err != nil {
			return fmt.Errorf("describe program %s: %w", name, err)
		}
		values := map[string]float64{}
		if n, ok := info.VerifiedInstructions(); ok {
			values["verified_instructions"] = float64(n)
		}
		if n, err := info.JitedSize(); err == nil {
			values["jited_bytes"] = float64(n)
		}
		r.Add("size", name, 0, values)
		return nil
	})
	if err != nil {
		return err
	}
	enabled, err := usage.Enable()
	if err != nil {
		return err
	}
	defer func() { _ = enabled.Close() }()
	for round := range r.Rounds {
		if err := ctx.Err(); err != nil {
			return err
		}
		before, err := usage.Programs(pid)
		if err != nil {
			return err
		}
		load, err := site.Load(wire.Load{Target: p.Target, Clients: 1, For: 200 * time.Millisecond, KeepOpen: true})
		if err != nil {
			return err
		}
		after, err := usage.Programs(pid)
		if err != nil {
			return err
		}
		for name, a := range after {
			if runs := a.Sub(before[name]); runs.Count > 0 {
				r.Add("under load", name, round, map[string]float64{
					"ns": float64(runs.Time.Nanoseconds()) / float64(runs.Count), "runs_per_request": float64(runs.Count) / float64(load.Requests),
				})
			}
		}
	}
	return nil
}
