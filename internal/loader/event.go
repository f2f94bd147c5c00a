package loader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"
)

const judgedBits = int(bpfSizeJUDGED_BITS)

// EventKind tells events apart.
type EventKind uint8

// Kinds of events.
const (
	EventOutcome = EventKind(bpfEventKindEVENT_OUTCOME)
	EventProbe   = EventKind(bpfEventKindEVENT_PROBE)  // a half-open permit was taken
	EventReturn  = EventKind(bpfEventKindEVENT_RETURN) // it came back unused
	EventLearn   = EventKind(bpfEventKindEVENT_LEARN)  // a call to an unknown backend of a CIDR
)

// Event is news from the programs.
type Event struct {
	Kind       EventKind
	Judged     bool // it is among Progress.Judged
	Failure    bool
	Slow       bool
	Permit     bool // a half-open permit was held
	Result     uint16
	Circuit    int // EventLearn: unset
	Generation uint32
	At         int64          // Now's clock, as the next
	Began      int64          // when the request or the SYN was admitted
	Sent       int64          // when its last byte was sent: the latency counts from there
	Ordinal    uint64         // judged outcomes of the verdict before this one
	Index      uint64         // events of the verdict before this one; a gap is events that were lost
	Duration   time.Duration  // Progress.Duration, this outcome included
	Client     netip.AddrPort // zero: an attempt that no hook saw, see RecordUnreachable
	Backend    netip.AddrPort
	Direction  Direction // EventLearn
}

// ErrNoEvent says that the ring is empty.
var ErrNoEvent = errors.New("no event")

// ReadEvent waits for an event until the deadline, and returns ErrNoEvent when it passes. A deadline in the past reads
// what is there. After Close it returns os.ErrClosed. One goroutine at a time.
func (d *Datapath) ReadEvent(rec *ringbuf.Record, deadline time.Time, ev *Event) error {
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

func decode(raw []byte, ev *Event) error {
	if len(raw) < int(unsafe.Sizeof(bpfEvent{})) {
		return fmt.Errorf("event of %d bytes, expected %d", len(raw), unsafe.Sizeof(bpfEvent{}))
	}
	// The ring's records are aligned to 8 bytes, but the copy in a Record need not be.
	var e bpfEvent
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&e)), unsafe.Sizeof(e)), raw)
	has := func(f bpfEventFlag) bool { return e.Flags&uint8(f) != 0 }
	*ev = Event{
		Kind: EventKind(e.Kind), Judged: has(bpfEventFlagEVENT_JUDGED), Failure: has(bpfEventFlagEVENT_FAILURE),
		Slow: has(bpfEventFlagEVENT_SLOW), Permit: has(bpfEventFlagEVENT_PERMIT), Result: e.Result, Circuit: int(e.Circuit), Generation: e.Generation,
		At: int64(e.At), Began: int64(e.Began), Sent: int64(e.Sent), Ordinal: e.Judged & (1<<judgedBits - 1), Index: e.Judged >> judgedBits,
		Duration: time.Duration(e.Duration),
		Client:   addrPort(e.Flow.Client, e.Flow.ClientPortBe), Backend: addrPort(e.Flow.Backend, e.Flow.BackendPortBe),
	}
	if e.Flow.ClientPortBe == 0 {
		ev.Client = netip.AddrPort{}
	}
	if ev.Kind == EventLearn {
		ev.Direction, ev.Circuit = Direction(e.Circuit), -1
	}
	return nil
}

func addrPort(addr [16]byte, portBe uint16) netip.AddrPort {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], portBe)
	return netip.AddrPortFrom(netip.AddrFrom16(addr).Unmap(), binary.BigEndian.Uint16(b[:]))
}

// eventRoom is what an event takes in the ring, its header included.
const eventRoom = 8 + (int(unsafe.Sizeof(bpfEvent{}))+7)&^7

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
