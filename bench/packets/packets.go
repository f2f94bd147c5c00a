// Package packets measures what a packet costs: each class of packets put to the programs by the kernel's own test run,
// and SYNs to a backend that rejects clients, as frames that pass a node.
package packets

import (
	"context"
	"fmt"

	"github.com/cbagent/cbagent/bench/part"
)

// Part is this part.
var Part = part.Part{
	Name: "packets",
	About: "Packets are put to the attached programs with BPF_PROG_TEST_RUN, beside a program that does nothing; the kernel's accounts tell how long programs run under load; and one core sends SYNs " +
		"through the node to a backend whose clients are rejected in different ways.",
	Rounds: 20, Quick: 1,
	Run: run,
}

func run(ctx context.Context, r *part.Run) error {
	if err := runClasses(ctx, r); err != nil {
		return fmt.Errorf("classes of packets: %w", err)
	}
	if err := runPrograms(ctx, r); err != nil {
		return fmt.Errorf("programs: %w", err)
	}
	if err := runFlood(ctx, r); err != nil {
		return fmt.Errorf("SYNs: %w", err)
	}
	return nil
}
