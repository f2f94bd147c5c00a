package tables

import (
	"fmt"

	"github.com/cbagent/cbagent/internal/bpf"
)

// Names of the programs' enums hook, action and reason, in the order of their values.
var hookNames = []string{"egress", "ingress", "loopback", "xdp", "connect", "lookup"}

var actionNames = []string{"pass", "respond", "ack", "swallow", "reset", "drop"}

var reasonNames = []string{
	"foreign", "short", "fragment", "ip-options", "extension-header", "remote", "untracked", "flow", "admitted",
	"probe", "monitored", "lease-expired", "exempt", "table-full", "answered", "error", "withheld", "out-of-sequence",
	"open", "forced-open", "half-open", "connection-limit", "request-limit", "rate-limit",
}

// PacketCounts is how many packets of a hook met an action for a reason.
type PacketCounts struct {
	Hook    string
	Action  string
	Reason  string
	Packets uint64
}

// Packets reads the counters of all hooks. Those that are zero are left out.
func (t *Tables) Packets() ([]PacketCounts, error) {
	var all []PacketCounts
	for hook := range hookNames {
		var cpus []bpf.CPacketCounts
		if err := t.maps.Packets.Lookup(uint32(hook), &cpus); err != nil {
			return nil, fmt.Errorf("read packet counts of %s: %w", hookNames[hook], err)
		}
		for a := range actionNames {
			for r := range reasonNames {
				var n uint64
				for i := range cpus {
					n += cpus[i].N[a][r]
				}
				if n > 0 {
					all = append(all, PacketCounts{hookNames[hook], actionNames[a], reasonNames[r], n})
				}
			}
		}
	}
	return all, nil
}
