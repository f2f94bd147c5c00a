package tables

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/ledger"
)

const judgedBits = int(bpf.CSizeJUDGED_BITS)

// The programs' numbers of kinds are the ledger's.
const (
	_ = -uint(ledger.EventOutcome ^ ledger.EventKind(bpf.CEventKindEVENT_OUTCOME))
	_ = -uint(ledger.EventProbe ^ ledger.EventKind(bpf.CEventKindEVENT_PROBE))
	_ = -uint(ledger.EventReturn ^ ledger.EventKind(bpf.CEventKindEVENT_RETURN))
	_ = -uint(ledger.EventLearn ^ ledger.EventKind(bpf.CEventKindEVENT_LEARN))
	_ = -uint(ledger.EventSweep ^ ledger.EventKind(bpf.CEventKindEVENT_SWEEP))
	_ = -uint(ledger.EventKinds ^ ledger.EventKind(bpf.CEventKindEVENT_MAX))
)

// ErrNoEvent says that the ring is empty.
var ErrNoEvent = errors.New("no event")

// ring reads the events of the programs.
type ring struct {
	reader *ringbuf.Reader
	record ringbuf.Record // its memory is used again
}

func openRing(m *ebpf.Map) (*ring, error) {
	reader, err := ringbuf.NewReader(m)
	if err != nil {
		return nil, fmt.Errorf("open the event ring: %w", err)
	}
	return &ring{reader: reader}, nil
}

func (r *ring) close() error {
	if r == nil {
		return nil
	}
	return r.reader.Close()
}

// NextEvent waits for an event until the deadline, and returns ErrNoEvent when it passes. With a deadline in the past it
// does not wait. After Close it returns os.ErrClosed. One goroutine at a time.
func (t *Tables) NextEvent(deadline time.Time) (ledger.Event, error) {
	r := t.ring
	r.reader.SetDeadline(deadline)
	switch err := r.reader.ReadInto(&r.record); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ledger.Event{}, ErrNoEvent
	case errors.Is(err, ringbuf.ErrClosed):
		return ledger.Event{}, os.ErrClosed
	case err != nil:
		return ledger.Event{}, fmt.Errorf("read the event ring: %w", err)
	}
	return decode(r.record.RawSample)
}

// EventsWaiting returns how many events are in the ring.
func (t *Tables) EventsWaiting() int { return t.ring.reader.AvailableBytes() / eventRoom }

func decode(raw []byte) (ledger.Event, error) {
	var e bpf.CEvent
	if len(raw) < int(unsafe.Sizeof(e)) {
		return ledger.Event{}, fmt.Errorf("event of %d bytes, expected %d", len(raw), unsafe.Sizeof(e))
	}
	// The ring's records are aligned to 8 bytes, but the copy in a Record need not be.
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&e)), unsafe.Sizeof(e)), raw)
	has := func(f bpf.CEventFlag) bool { return e.Flags&uint8(f) != 0 }
	ev := ledger.Event{
		Kind: ledger.EventKind(e.Kind), Judged: has(bpf.CEventFlagEVENT_JUDGED), Failure: has(bpf.CEventFlagEVENT_FAILURE),
		Slow: has(bpf.CEventFlagEVENT_SLOW), Permit: has(bpf.CEventFlagEVENT_PERMIT), Result: e.Result,
		Circuit: int(e.Circuit), Generation: e.Generation, At: int64(e.At), Began: int64(e.Began), Sent: int64(e.Sent),
		Ordinal: e.Judged & (1<<judgedBits - 1), Index: e.Judged >> judgedBits, Duration: time.Duration(e.Duration),
		Client: addrPort(e.Flow.Client, e.Flow.ClientPortBe), Backend: addrPort(e.Flow.Backend, e.Flow.BackendPortBe),
	}
	if e.Flow.ClientPortBe == 0 {
		ev.Client = netip.AddrPort{}
	}
	if ev.Kind == ledger.EventLearn {
		ev.Inbound, ev.Circuit = Direction(e.Circuit) == Inbound, -1
	}
	if ev.Kind == ledger.EventSweep {
		ev.Circuit = -1
	}
	return ev, nil
}

// eventRoom is the size of an event in the ring with its header, in bytes.
const eventRoom = 8 + (int(unsafe.Sizeof(bpf.CEvent{}))+7)&^7

// RingFor returns the size in bytes of a ring that holds so many events: a power of two, and at least a page.
func RingFor(events int) int {
	size := os.Getpagesize()
	for size < events*eventRoom {
		size *= 2
	}
	return size
}
