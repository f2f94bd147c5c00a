package loader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cilium/ebpf/ringbuf"
)

const judgedBits = int(bpf.CSizeJUDGED_BITS)

// The programs' numbers of kinds are the ledger's.
const (
	_ = -uint(ledger.EventOutcome ^ ledger.EventKind(bpf.CEventKindEVENT_OUTCOME))
	_ = -uint(ledger.EventProbe ^ ledger.EventKind(bpf.CEventKindEVENT_PROBE))
	_ = -uint(ledger.EventReturn ^ ledger.EventKind(bpf.CEventKindEVENT_RETURN))
	_ = -uint(ledger.EventLearn ^ ledger.EventKind(bpf.CEventKindEVENT_LEARN))
	_ = -uint(ledger.EventKinds ^ ledger.EventKind(bpf.CEventKindEVENT_MAX))
)

// ErrNoEvent says that the ring is empty.
var ErrNoEvent = errors.New("no event")

// ReadEvent waits for an event until the deadline, and returns ErrNoEvent when it passes. A deadline in the past reads
// what is there. After Close it returns os.ErrClosed. One goroutine at a time.
func (d *Datapath) ReadEvent(rec *ringbuf.Record, deadline time.Time, ev *ledger.Event) error {
	d.events.SetDeadline(deadline)
	switch err := d.events.ReadInto(rec); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ErrNoEvent
	case errors.Is(err, ringbuf.ErrClosed):
		return os.ErrClosed
	case err != nil:
		return fmt.Errorf("read the event ring: %w", err)
	}
	return decode(rec.RawSample, ev)
}

func decode(raw []byte, ev *ledger.Event) error {
	if len(raw) < int(unsafe.Sizeof(bpf.CEvent{})) {
		return fmt.Errorf("event of %d bytes, expected %d", len(raw), unsafe.Sizeof(bpf.CEvent{}))
	}
	// The ring's records are aligned to 8 bytes, but the copy in a Record need not be.
	var e bpf.CEvent
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&e)), unsafe.Sizeof(e)), raw)
	has := func(f bpf.CEventFlag) bool { return e.Flags&uint8(f) != 0 }
	*ev = ledger.Event{
		Kind: ledger.EventKind(e.Kind), Judged: has(bpf.CEventFlagEVENT_JUDGED), Failure: has(bpf.CEventFlagEVENT_FAILURE),
		Slow: has(bpf.CEventFlagEVENT_SLOW), Permit: has(bpf.CEventFlagEVENT_PERMIT), Result: e.Result, Circuit: int(e.Circuit), Generation: e.Generation,
		At: int64(e.At), Began: int64(e.Began), Sent: int64(e.Sent), Ordinal: e.Judged & (1<<judgedBits - 1), Index: e.Judged >> judgedBits,
		Duration: time.Duration(e.Duration),
		Client:   addrPort(e.Flow.Client, e.Flow.ClientPortBe), Backend: addrPort(e.Flow.Backend, e.Flow.BackendPortBe),
	}
	if e.Flow.ClientPortBe == 0 {
		ev.Client = netip.AddrPort{}
	}
	if ev.Kind == ledger.EventLearn {
		ev.Inbound, ev.Circuit = Direction(e.Circuit) == Inbound, -1
	}
	return nil
}

func addrPort(addr [16]byte, portBe uint16) netip.AddrPort {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], portBe)
	return netip.AddrPortFrom(netip.AddrFrom16(addr).Unmap(), binary.BigEndian.Uint16(b[:]))
}

// eventRoom is what an event takes in the ring, its header included.
const eventRoom = 8 + (int(unsafe.Sizeof(bpf.CEvent{}))+7)&^7

// RingFor returns the size of a ring (Options.Ring) that holds so many events.
func RingFor(events int) int {
	size := os.Getpagesize()
	for size < events*eventRoom {
		size *= 2
	}
	return size
}

// EventsWaiting returns how many events are in the ring.
func (d *Datapath) EventsWaiting() int { return d.events.AvailableBytes() / eventRoom }
