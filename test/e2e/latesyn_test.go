package e2e

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// TestLateSYN sends the SYN of a rejected connection once more, after its request was answered and before its client has
// sent all of it, or before the request. It changes nothing.
func TestLateSYN(t *testing.T) {
	t.Parallel()
	const head, body = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n", "body"
	for _, answered := range []bool{false, true} {
		t.Run(fmt.Sprintf("answered=%v", answered), func(t *testing.T) {
			t.Parallel()
			p := relayPlace(t)
			openAt(t, p.place)
			syns := make(chan []byte, 1)
			p.clients.Forward.SetHook(func(frame []byte) netlab.Fate {
				if s, ok := netlab.ParseSegment(frame); ok && s.Flags&netlab.SYN != 0 {
					syns <- append([]byte(nil), frame...)
				}
				return netlab.Fate{}
			})
			var mine atomic.Uint32 // port of the connection
			var resets, atBackend atomic.Int64
			p.clients.Backward.SetHook(func(frame []byte) netlab.Fate {
				s, ok := netlab.ParseSegment(frame)
				if ok && uint32(s.Dst.Port()) == mine.Load() && s.Flags&netlab.RST != 0 {
					resets.Add(1)
				}
				return netlab.Fate{}
			})
			p.backends.Forward.SetHook(func(frame []byte) netlab.Fate {
				if s, ok := netlab.ParseSegment(frame); ok && uint32(s.Src.Port()) == mine.Load() {
					atBackend.Add(1)
				}
				return netlab.Fate{}
			})
			c := dial(t, p.place)
			mine.Store(uint32(c.LocalAddr().(*net.TCPAddr).Port))
			syn := <-syns
			again := func() {
				t.Helper()
				before := p.clients.Backward.Counts().Frames
				p.clients.Forward.Inject(syn)
				if !answered {
					eventually(t, "the SYN is answered again", func() bool { return p.clients.Backward.Counts().Frames > before })
				}
			}
			if !answered {
				again()
			}
			sendAll(t, c, head)
			first := make([]byte, len("HTTP/1.1 503 "))
			if _, err := c.Read(first); err != nil || !strings.HasPrefix(string(first), "HTTP/1.1 503 ") {
				t.Fatalf("got %q, %v; want the kernel's 503", first, err)
			}
			if answered {
				again()
			}
			if _, err := c.Write([]byte(body)); err != nil {
				t.Errorf("the rest of the request: %v", err)
			}
			got := rest(t, c)
			if !strings.HasSuffix(got, `{"error":"circuit open"}`) {
				t.Errorf("got %q, want the rest of the kernel's 503", got)
			}
			acked := p.clients.Forward.Counts().Frames
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			eventually(t, "the client closes", func() bool { return p.clients.Forward.Counts().Frames > acked })
			// What the node would have sent by now precedes the answer to another request.
			wantAnswer(t, call(t, client(t, p.client, p.dial)), "open")
			if resets.Load() > 0 || atBackend.Load() > 0 {
				t.Errorf("%d resets for the client, %d packets for the backend; want none", resets.Load(), atBackend.Load())
			}
		})
	}
}
