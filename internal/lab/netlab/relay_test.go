package netlab

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/rootonly"
)

// relayed makes two namespaces with a relay from the first to the second.
func relayed(t *testing.T) (a, b *Namespace, r *Relay) {
	t.Helper()
	lab, a, b := pair(t)
	here, there := link()
	r, err := lab.Relay(End{a, "eth0", here}, End{b, "eth0", there}, 1)
	if err != nil {
		t.Fatal(err)
	}
	return a, b, r
}

// upload sends bytes from one namespace to the other, and returns when the other has read them all.
func upload(t *testing.T, from, to *Namespace, at netip.AddrPort, content []byte) {
	t.Helper()
	l, err := to.Listen(at)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	got := make(chan []byte, 1)
	go func() {
		defer close(got)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		all, err := io.ReadAll(c)
		if err == nil {
			got <- all
		}
	}()
	c, err := from.DialContext(t.Context(), "tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if all := <-got; !bytes.Equal(all, content) {
		t.Errorf("%d bytes arrived, want the %d that were sent", len(all), len(content))
	}
}

// Frames are single packets with right checksums.
func TestRelayCarriesPackets(t *testing.T) {
	rootonly.Test(t)
	a, b, r := relayed(t)
	var frames, long, wrong atomic.Uint64
	for _, d := range []*Direction{r.Forward, r.Backward} {
		d.SetHook(func(frame []byte) Fate {
			frames.Add(1)
			if len(frame) > ethernetLen+1500 {
				long.Add(1)
			}
			if _, ok := ParseSegment(frame); ok && !validChecksums(frame) {
				wrong.Add(1)
			}
			return Fate{}
		})
	}
	_, there := link()
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for _, at := range there {
		before := r.Forward.Counts()
		upload(t, a, b, netip.AddrPortFrom(at.Addr(), 8080), content)
		if got := r.Forward.Counts(); got.Frames-before.Frames < uint64(len(content)/1500) {
			t.Errorf("to %s: %d frames for %d bytes", at.Addr(), got.Frames-before.Frames, len(content))
		}
	}
	if long.Load() > 0 || wrong.Load() > 0 {
		t.Errorf("of %d frames %d were longer than the MTU, %d had wrong checksums", frames.Load(), long.Load(), wrong.Load())
	}
	for name, d := range map[string]*Direction{"forward": r.Forward, "backward": r.Backward} {
		got := d.Counts()
		if want := (RelayCounts{Frames: got.Frames, Carried: got.Frames}); got != want {
			t.Errorf("%s: counted %+v, want nothing but frames carried", name, got)
		}
	}
	if n, err := r.Overruns(); n > 0 || err != nil {
		t.Errorf("%d overruns, %v", n, err)
	}
}

// TCP gets its bytes through whatever the relay does.
func TestRelayImpairsFrames(t *testing.T) {
	rootonly.Test(t)
	a, b, r := relayed(t)
	all := Impairment{Loss: 0.02, Duplicate: 0.05, Reorder: 0.05, Delay: time.Millisecond, Jitter: time.Millisecond}
	r.Forward.Set(all)
	r.Backward.Set(all)
	_, there := link()
	upload(t, a, b, netip.AddrPortFrom(there[0].Addr(), 8080), bytes.Repeat([]byte("0123456789abcdef"), 1<<16))
	for name, d := range map[string]*Direction{"forward": r.Forward, "backward": r.Backward} {
		if got := d.Counts(); got.Lost == 0 || got.Duplicated == 0 || got.Reordered == 0 || got.Delayed == 0 || got.Failed > 0 {
			t.Errorf("%s: counted %+v, want some of everything but failures", name, got)
		}
	}
}

// The second segment with data is lost once: it is sent again.
func TestRelayLosesOneSegment(t *testing.T) {
	rootonly.Test(t)
	a, b, r := relayed(t)
	var lost Segment
	var data, again atomic.Int32
	r.Forward.SetHook(func(frame []byte) Fate {
		s, ok := ParseSegment(frame)
		if !ok || len(s.Payload) == 0 {
			return Fate{}
		}
		if data.Add(1) == 2 {
			lost = s
			return Fate{Drop: true}
		}
		if s.Seq == lost.Seq {
			again.Add(1)
		}
		return Fate{}
	})
	_, there := link()
	upload(t, a, b, netip.AddrPortFrom(there[0].Addr(), 8080), make([]byte, 100_000))
	if got := r.Forward.Counts(); got.Lost != 1 || again.Load() == 0 {
		t.Errorf("counted %+v, and the segment came again %d times", got, again.Load())
	}
}

func TestRelayDelays(t *testing.T) {
	rootonly.Test(t)
	const oneWay = 20 * time.Millisecond
	a, b, r := relayed(t)
	r.Forward.Set(Impairment{Delay: oneWay})
	r.Backward.Set(Impairment{Delay: oneWay})
	_, there := link()
	at := netip.AddrPortFrom(there[0].Addr(), 8080)
	l, err := b.Listen(at)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	began := time.Now()
	c, err := a.DialContext(t.Context(), "tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if took := time.Since(began); took < 2*oneWay || took > 10*oneWay {
		t.Errorf("it took %s to connect, want %s", took, 2*oneWay)
	}
}

// A forged segment arrives like any other: here a reset with the right sequence number, which ends a connection.
func TestRelayInjects(t *testing.T) {
	rootonly.Test(t)
	a, b, r := relayed(t)
	ack := make(chan Segment, 1)
	r.Forward.SetHook(func(frame []byte) Fate {
		if s, ok := ParseSegment(frame); ok && s.Flags == ACK {
			select {
			case ack <- s:
			default:
			}
		}
		return Fate{}
	})
	_, there := link()
	at := netip.AddrPortFrom(there[1].Addr(), 8080)
	l, err := b.Listen(at)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c, err := a.DialContext(t.Context(), "tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	s := <-ack
	forged := Segment{SrcMAC: s.DstMAC, DstMAC: s.SrcMAC, Src: s.Dst, Dst: s.Src, Seq: s.Ack, Ack: s.Seq, Flags: RST | ACK}
	r.Backward.Inject(forged.Frame())
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want %v", err, syscall.ECONNRESET)
	}
	if got := r.Backward.Counts(); got.Injected != 1 || got.Carried != got.Frames+1 {
		t.Errorf("counted %+v, want one injected frame", got)
	}
}
