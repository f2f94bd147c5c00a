package tables

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/bpf"
)

// Tables are the maps of loaded programs. Its methods may be called from any goroutine, except those that say otherwise.
type Tables struct {
	maps     bpf.CMaps
	adopted  bool
	ring     *ring
	node     *shared[bpf.CNodeState]
	policies *shared[bpf.CPolicy]
	answers  *shared[bpf.CAnswer]
	targets  *shared[bpf.CTarget] // a target's circuit has the same index
	circuits *shared[circuit]

	mu        sync.Mutex
	ports     portCounts
	known     map[bpf.CEndpoint]bool
	networks  map[bpf.CCidrKey]uint16          // port of each
	inherited map[bpf.CEndpoint]AdoptedBackend // of a former agent, until they are put or removed
}

// Open opens the tables of programs that have been loaded. The maps stay the caller's to close, after Close. flows is the
// number of connections that the programs may follow at once. When the maps are those of a former agent, what it left is
// kept; see Adopted.
func Open(maps bpf.CMaps, flows int) (*Tables, error) {
	t := &Tables{
		maps: maps, ports: portCounts{}, known: map[bpf.CEndpoint]bool{}, networks: map[bpf.CCidrKey]uint16{},
		inherited: map[bpf.CEndpoint]AdoptedBackend{},
	}
	if err := t.open(flows); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

func (t *Tables) open(flows int) error {
	var err error
	if t.node, err = mapShared[bpf.CNodeState](t.maps.Node); err != nil {
		return err
	}
	if t.policies, err = mapShared[bpf.CPolicy](t.maps.Policies); err != nil {
		return err
	}
	if t.answers, err = mapShared[bpf.CAnswer](t.maps.Answers); err != nil {
		return err
	}
	if t.targets, err = mapShared[bpf.CTarget](t.maps.Targets); err != nil {
		return err
	}
	if t.circuits, err = mapShared[circuit](t.maps.Circuits); err != nil {
		return err
	}
	if t.ring, err = openRing(t.maps.Events); err != nil {
		return err
	}
	n := &t.node.vals[0]
	t.adopted = n.Secret != [2]uint64{}
	if !t.adopted {
		var secret [16]byte
		if _, err := rand.Read(secret[:]); err != nil {
			return fmt.Errorf("draw a key for sequence numbers: %w", err)
		}
		n.Secret[0] = binary.NativeEndian.Uint64(secret[:8])
		n.Secret[1] = binary.NativeEndian.Uint64(secret[8:])
	}
	atomic.StoreUint64(&n.FlowMax, uint64(flows))
	atomic.StoreUint64(&n.FlowReserve, uint64(flows/8))
	return t.adopt()
}

// Close unmaps the tables and closes the event ring. Calling it again does nothing.
func (t *Tables) Close() error {
	return errors.Join(t.ring.close(), t.node.close(), t.policies.close(), t.answers.close(), t.targets.close(), t.circuits.close())
}

// Now returns the clock of the programs (CLOCK_MONOTONIC) in nanoseconds.
func Now() int64 {
	var ts unix.Timespec
	// It cannot fail for this clock.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}
