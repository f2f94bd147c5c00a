package loader

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/tables"
)

// stateMask selects the state in a state word; a count of changes is above it.
const stateMask = 0xff

// flowFlags are the names of the flags of a connection.
var flowFlags = []struct {
	bit  bpf.CFlowFlag
	name string
}{
	{bpf.CFlowFlagFLOW_CLIENT_FIN, "client-fin"},
	{bpf.CFlowFlagFLOW_BACKEND_FIN, "backend-fin"},
	{bpf.CFlowFlagFLOW_ANSWERING, "answering"},
	{bpf.CFlowFlagFLOW_JOINED, "joined"},
	{bpf.CFlowFlagFLOW_COUNTED, "counted"},
	{bpf.CFlowFlagFLOW_CLIENT_FIN_AHEAD, "client-fin-ahead"},
	{bpf.CFlowFlagFLOW_BACKEND_FIN_AHEAD, "backend-fin-ahead"},
	{bpf.CFlowFlagFLOW_USED, "used"},
}

var phases = map[bpf.CPhase]string{
	bpf.CPhasePHASE_SYN: "syn", bpf.CPhasePHASE_ACCEPTED: "accepted", bpf.CPhasePHASE_OPEN: "open", bpf.CPhasePHASE_TUNNEL: "tunnel",
	bpf.CPhasePHASE_EXPIRED: "expired", bpf.CPhasePHASE_GONE: "gone",
}

// DescribeFlows describes followed connections for a person, one per element and at most so many. Sequence numbers of the
// client are relative to its initial one, or to the first data of a connection whose SYN was not seen; those of the backend
// are relative to the client's latest acknowledgement.
func (d *Datapath) DescribeFlows(most int) ([]string, error) {
	var key bpf.CFlowKey
	var f bpf.CFlow
	var all []string
	it := d.objs.Flows.Iterate()
	for len(all) < most && it.Next(&key, &f) {
		all = append(all, describeFlow(&key, &f, tables.Now()))
	}
	if err := it.Err(); err != nil {
		return all, fmt.Errorf("read the connections: %w", err)
	}
	return all, nil
}

func describeFlow(key *bpf.CFlowKey, f *bpf.CFlow, now int64) string {
	var flags []string
	for _, flag := range flowFlags {
		if f.Flags&uint32(flag.bit) != 0 {
			flags = append(flags, flag.name)
		}
	}
	base := f.Isn
	if f.Flags&uint32(bpf.CFlowFlagFLOW_JOINED) != 0 {
		base = f.ClientEnd
	}
	client := func(seq uint32) int32 { return int32(seq - base) }
	backend := func(seq uint32) int32 { return int32(seq - f.ClientAck) }
	return fmt.Sprintf("%s -> %s: target %d, phase %s after %d changes, flags [%s], silent for %s; "+
		"client: end %d, max %d, fin %d, acked %d; backend: end %d, fin %d, next %d; "+
		"%d requests, the last: state %d after %d changes, start %d, flags %#x, sent %s ago",
		endpointOf(key.Client, key.ClientPortBe), endpointOf(key.Backend, key.BackendPortBe), f.Target,
		phases[bpf.CPhase(f.State&stateMask)], f.State>>8, strings.Join(flags, " "), time.Duration(now-int64(f.LastSeen)),
		client(f.ClientEnd), client(f.ClientMax), client(f.ClientFin), client(f.Acked),
		backend(f.BackendEnd), backend(f.BackendFin), backend(f.BackendNext),
		f.Requests, f.Request.State&stateMask, f.Request.State>>8, client(f.Request.Start), f.Request.Flags,
		time.Duration(now-int64(f.Request.Sent)))
}

func endpointOf(addr [16]uint8, portBE uint16) netip.AddrPort {
	var port [2]byte
	binary.NativeEndian.PutUint16(port[:], portBE)
	return netip.AddrPortFrom(netip.AddrFrom16(addr).Unmap(), binary.BigEndian.Uint16(port[:]))
}
