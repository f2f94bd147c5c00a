package loader

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// fromClient and fromBackend return the next segment of a side, which may be put to the programs later, or never.
func (h *h2) fromClient(flags uint8, data string) segment {
	s := h.segment(flags, data)
	h.seq += uint32(len(data))
	if flags&fin != 0 {
		h.seq++
	}
	return s
}

func (h *h2) fromBackend(flags uint8, data string) segment {
	s := segment{
		src: h.conn.backend, dst: h.conn.client, seq: h.ack, ack: h.seq, flags: flags, options: h.options, payload: []byte(data),
	}
	h.ack += uint32(len(data))
	if flags&fin != 0 {
		h.ack++
	}
	return s
}

// arrive puts segments to the programs, which must pass them.
func (h *h2) arrive(all ...segment) {
	h.r.t.Helper()
	for _, s := range all {
		p := h.out
		if s.src == h.conn.backend {
			p = h.in
		}
		if res := h.put(p, s, skbContext{}); res.verdict != verdictNext || !res.same {
			h.r.t.Fatalf("%s: verdict %d, %v", s, res.verdict, res.counted)
		}
	}
}

// cut makes segments of one side of at most 1400 bytes.
func (h *h2) cut(next func(uint8, string) segment, data string) []segment {
	var all []segment
	for _, p := range pieces(len(data), 1400) {
		all = append(all, next(psh|ack, data[p.from:p.to]))
	}
	return all
}

// acks sends a bare acknowledgement of the client.
func (h *h2) acks() { h.r.t.Helper(); h.arrive(h.segment(ack, "")) }

func checkGaps(t *testing.T, cases []http2Case) {
	t.Helper()
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			at(t, places[:1], http2Policy(), ledger.Verdict{}, func(t *testing.T, c *conn) {
				h := c.openHTTP2(whole)
				tc.play(h)
				h.sweep()
				h.r.wantTotals(tc.want)
				h.r.forgotten()
			})
		})
	}
}

// Segments arrive in another order than they were sent in, and all arrive.
func TestHTTP2Reordered(t *testing.T) {
	body := strings.Repeat("x", 16000)
	checkGaps(t, []http2Case{
		{"a gap within a body needs nothing that was kept", func(h *h2) {
			h.asks(h.client.call(1))
			h.backend.headers(1, false, ":status", "200", "content-type", "application/grpc")
			for range 6 {
				h.backend.data(1, false, body)
			}
			all := h.cut(h.fromBackend, h.backend.headers(1, true, "grpc-status", "0").take())
			h.arrive(all[0])
			h.arrive(all[2:]...)
			h.r.wantTotals(withConnection(outcomes(1, 1, 0, "grpc-ok")))
			h.arrive(all[1])
			h.end()
		}, outcomes(1, 1, 0, "grpc-ok")},
		{"a gap within the body of a request", func(h *h2) {
			h.client.headers(1, false, ":method", "POST", ":path", "/")
			all := h.cut(h.fromClient, h.client.data(1, true, body).get(3).take())
			h.arrive(all[0])
			h.arrive(all[3:]...)
			h.arrive(all[1:3]...)
			h.answers(h.backend.headers(1, true, ":status", "200").headers(3, true, ":status", "500"))
			h.end()
		}, outcomes(2, 2, 1, "2xx", "5xx")},
		{"as much as is kept comes ahead of response headers", func(h *h2) {
			h.asks(h.client.call(1).call(3))
			h.backend.headers(1, false, ":status", "200", "content-type", "application/grpc")
			for range 2 {
				h.backend.data(1, false, body)
			}
			all := h.cut(h.fromBackend, h.backend.headers(1, true, "grpc-status", "14").reply(3, "0").take())
			h.arrive(all[1:]...)
			h.arrive(all[1:]...)
			h.arrive(all[0])
			h.end()
		}, outcomes(2, 2, 1, "grpc-unavailable", "grpc-ok")},
		{"large segments", func(h *h2) {
			h.asks(h.client.call(1))
			h.backend.headers(1, false, ":status", "200", "content-type", "application/grpc").data(1, false, body[:5800])
			data := h.backend.headers(1, true, "grpc-status", "14").take()
			first, second, third := h.fromBackend(ack, data[:100]), h.fromBackend(ack, data[100:2900]), h.fromBackend(ack, data[2900:])
			h.arrive(third, second, first)
			h.end()
		}, outcomes(1, 1, 1, "grpc-unavailable")},
		{"two gaps", func(h *h2) {
			h.asks(h.client.get(1).get(3).get(5))
			one := h.fromBackend(ack, h.backend.headers(1, true, ":status", "200").take())
			two := h.fromBackend(ack, h.backend.headers(3, true, ":status", "503").take())
			three := h.fromBackend(ack, h.backend.headers(5, true, ":status", "404").take())
			h.arrive(three, one, two)
			h.end()
		}, outcomes(3, 3, 1, "2xx", "5xx", "4xx")},
		{"a FIN of the backend comes ahead of the response", func(h *h2) {
			h.asks(h.client.get(1))
			one := h.fromBackend(ack, h.backend.headers(1, false, ":status", "200").take())
			two := h.fromBackend(ack, h.backend.data(1, true, "ok").take())
			last := h.fromBackend(fin|ack, "")
			h.arrive(two, last)
			h.sweep()
			h.arrive(one)
			h.clientFIN()
		}, outcomes(1, 1, 0, "2xx")},
		{"the last data with a FIN of the backend come first", func(h *h2) {
			h.asks(h.client.get(1).get(3))
			one := h.fromBackend(ack, h.backend.headers(1, true, ":status", "503").take())
			last := h.fromBackend(fin|ack, h.backend.headers(3, false, ":status", "200").take())
			h.arrive(last)
			h.sweep()
			h.arrive(one)
			h.sweep()
			h.clientFIN()
		}, outcomes(2, 2, 1, "2xx", "5xx")},
		{"a FIN of the client comes ahead of a request", func(h *h2) {
			one := h.fromClient(ack, h.client.get(1).take())
			two := h.fromClient(ack, h.client.get(3).take())
			last := h.fromClient(fin|ack, "")
			h.arrive(last, two, one)
			h.answers(h.backend.headers(1, true, ":status", "200").headers(3, true, ":status", "200"))
			h.backendFIN()
		}, outcomes(2, 2, 0, "2xx", "2xx")},
		{"a cancellation comes ahead of its request", func(h *h2) {
			one := h.fromClient(ack, h.client.get(1).get(3).take())
			two := h.fromClient(ack, h.client.reset(1, http2.ErrCodeCancel).take())
			h.arrive(two, one)
			h.answers(h.backend.headers(3, true, ":status", "200"))
			h.end()
		}, outcomes(2, 1, 0, "aborted", "2xx")},
		{"what another side would not have sent is not kept", func(h *h2) {
			h.asks(h.client.get(1))
			one := h.fromBackend(ack, h.backend.headers(1, true, ":status", "200").take())
			forged := one
			forged.seq += uint32(len(one.payload))
			forged.ack += 1 << 20
			h.asks(h.client.get(3))
			forged.payload = []byte(h.backend.headers(3, true, ":status", "503").take())
			h.arrive(forged, one)
			h.answers(newPeer().headers(3, true, ":status", "200"))
			h.end()
		}, outcomes(2, 2, 0, "2xx", "2xx")},
	})
}

func withConnection(w want) want { w.Connections = 1; return w }

// misses loses what a side has sent on a way that has no programs. What it sends next arrives, and is acknowledged.
func (h *h2) misses(p *peer) {
	h.r.t.Helper()
	if p == h.client {
		h.fromClient(ack, p.take())
	} else {
		h.fromBackend(ack, p.take())
	}
	must(p.framer.WritePing(false, [8]byte{}))
	if p == h.client {
		h.asks(p)
		h.arrive(h.fromBackend(ack, ""))
	} else {
		h.answers(p)
		h.acks()
	}
}

// endUnread closes a connection whose FIN of the backend is known only when the client has acknowledged it.
func (h *h2) endUnread() {
	h.r.t.Helper()
	h.clientFIN()
	h.backendFIN()
	h.acks()
	h.sweep()
}

// Some segments never arrive at the programs: what they said is unknown, and never wrong.
func TestHTTP2Missed(t *testing.T) {
	body := strings.Repeat("x", 16000)
	checkGaps(t, []http2Case{
		{"a response is missed", func(h *h2) {
			h.asks(h.client.get(1).get(3))
			h.misses(h.backend.headers(1, true, ":status", "503"))
			h.answers(h.backend.headers(3, true, ":status", "404"))
			h.sweep()
			h.asks(h.client.get(5))
			h.answers(h.backend.headers(5, true, ":status", "200"))
			h.end()
		}, outcomes(3, 2, 0, "unknown", "4xx", "2xx")},
		{"a response is missed, and the time-out passes", func(h *h2) {
			h.asks(h.client.get(1))
			h.misses(h.backend.headers(1, true, ":status", "503"))
			h.waited(timeout)
			h.sweep()
			h.endUnread()
		}, outcomes(1, 0, 0, "unknown")},
		{"a response is missed, and the client resets", func(h *h2) {
			h.asks(h.client.get(1))
			h.misses(h.backend.headers(1, true, ":status", "503"))
			h.clientRST()
		}, outcomes(1, 0, 0, "unknown")},
		{"a response is missed, and the backend closes", func(h *h2) {
			h.asks(h.client.get(1))
			h.misses(h.backend.headers(1, true, ":status", "200"))
			h.backendFIN()
			h.acks()
			h.sweep()
			h.clientFIN()
		}, outcomes(1, 0, 0, "unknown")},
		{"a stream begins while the boundaries are unknown", func(h *h2) {
			h.asks(h.client.get(1))
			h.misses(h.backend.headers(1, true, ":status", "200"))
			h.answers(h.backend.data(1, false, "x")) // no boundary: not a header block
			h.asks(h.client.get(3).get(5))
			h.answers(h.backend.data(3, false, "").headers(3, true, ":status", "503"))
			h.answers(h.backend.headers(5, true, ":status", "200"))
			h.waited(timeout)
			h.end()
		}, outcomes(3, 1, 0, "unknown", "unknown", "2xx")},
		{"a stream whose response headers are read after a gap is followed", func(h *h2) {
			h.asks(h.client.call(1))
			h.misses(h.backend.headers(1, false, ":status", "100"))
			h.asks(h.client.call(3))
			h.answers(newPeer().headers(3, false, ":status", "200", "content-type", "application/grpc"))
			h.sweep()
			h.answers(newPeer().headers(3, true, "grpc-status", "14"))
			h.end()
		}, outcomes(2, 1, 1, "unknown", "grpc-unavailable")},
		{"a request is missed", func(h *h2) {
			h.asks(h.client.get(1))
			h.misses(h.client.get(3))
			h.asks(h.client.get(5))
			h.answers(h.backend.headers(1, true, ":status", "200").headers(3, true, ":status", "503").headers(5, true, ":status", "404"))
			h.end()
		}, outcomes(2, 2, 0, "2xx", "4xx")},
		{"a cancellation is missed", func(h *h2) {
			h.asks(h.client.get(1))
			h.misses(h.client.reset(1, http2.ErrCodeCancel))
			h.asks(h.client.get(3))
			h.answers(h.backend.headers(3, true, ":status", "404"))
			h.waited(timeout)
			h.sweep()
			h.end()
		}, outcomes(2, 1, 0, "unknown", "4xx")},
		{"more than is kept comes ahead of response headers", func(h *h2) {
			h.asks(h.client.call(1).call(3))
			h.backend.headers(1, false, ":status", "200", "content-type", "application/grpc")
			for range 5 {
				h.backend.data(1, false, body)
			}
			all := h.cut(h.fromBackend, h.backend.headers(1, true, "grpc-status", "14").reply(3, "0").take())
			h.arrive(all[1:]...)
			h.arrive(all[0])
			h.acks()
			h.answers(h.backend.data(9, false, ""))
			h.sweep()
			h.asks(h.client.call(5))
			h.answers(newPeer().reply(5, "0"))
			h.end()
		}, outcomes(3, 1, 0, "unknown", "unknown", "grpc-ok")},
		{"kept segments are evicted", func(h *h2) {
			h.asks(h.client.get(1).get(3))
			one := h.fromBackend(ack, h.backend.headers(1, true, ":status", "200").take())
			two := h.fromBackend(ack, h.backend.headers(3, true, ":status", "503").take())
			h.arrive(two)
			clearMap[bpf.CAheadKey](h.r, h.r.d.objs.AheadChunks)
			h.arrive(one)
			h.acks()
			h.endUnread()
		}, outcomes(2, 1, 0, "2xx", "unknown")},
		{"a kept segment is evicted, and comes again", func(h *h2) {
			h.asks(h.client.get(1).get(3))
			one := h.fromBackend(ack, h.backend.headers(1, true, ":status", "200").take())
			two := h.fromBackend(ack, h.backend.headers(3, true, ":status", "503").take())
			h.arrive(two)
			clearMap[bpf.CAheadKey](h.r, h.r.d.objs.AheadChunks)
			h.arrive(one, two)
			h.end()
		}, outcomes(2, 2, 1, "2xx", "5xx")},
	})
}

// Another CPU reads the same side and does not end: the packet passes, and what it said is unknown.
func TestHTTP2BusySide(t *testing.T) {
	at(t, places[:1], http2Policy(), ledger.Verdict{}, func(t *testing.T, c *conn) {
		h := c.openHTTP2(whole)
		h.asks(h.client.get(1))
		busy := func(n uint32) {
			f, _ := h.r.flow(h.conn.client, h.conn.backend)
			var state bpf.CHttp2Connection
			if err := h.r.d.objs.Http2Connections.Lookup(f.Http2.Connection, &state); err != nil {
				t.Fatal(err)
			}
			state.Backend.Busy = n
			if err := h.r.d.objs.Http2Connections.Put(f.Http2.Connection, &state); err != nil {
				t.Fatal(err)
			}
		}
		busy(1)
		h.answers(h.backend.headers(1, true, ":status", "200"))
		busy(0)
		h.acks()
		h.waited(timeout)
		h.sweep()
		h.r.wantTotals(withConnection(outcomes(1, 0, 0, "unknown")))
		h.endUnread()
		h.r.forgotten()
	})
}

// A connection whose beginning was not seen is followed from a request on. What its table of header fields hides is unknown.
func TestHTTP2Joined(t *testing.T) {
	at(t, places[:1], http2Policy(), ledger.Verdict{}, func(t *testing.T, c *conn) {
		h := &h2{conn: c, client: newPeer(), backend: newPeer(), carry: whole}
		h.ack = 5000
		// Both sides have inserted fields into their tables.
		h.client.call(1).take()
		h.backend.headers(1, true, ":status", "503", "content-type", "application/json").take()
		h.backend.reply(1, "14").take()
		h.asks(h.client.get(3))
		h.answers(h.backend.headers(3, true, ":status", "404"))
		h.asks(h.client.get(5))
		h.answers(h.backend.headers(5, true, ":status", "503")) // in the table
		h.asks(h.client.call(7))
		h.answers(h.backend.reply(7, "14")) // in the table
		h.asks(h.client.call(9))
		h.answers(h.backend.reply(9, "5")) // its name is in the table
		h.asks(h.client.call(11))
		h.answers(h.backend.reply(11, "5"))
		h.asks(h.client.get(13))
		h.answers(h.backend.headers(13, false, ":status", "500", "content-type", "application/json"))
		h.answers(h.backend.data(13, true, "{}"))
		h.sweep()
		h.r.wantTotals(withConnection(outcomes(6, 2, 1, "4xx", "unknown", "unknown", "unknown", "unknown", "5xx")))
		h.clientFIN()
		h.backendFIN()
		h.sweep()
		h.r.forgotten()
		if n := h.r.sweepAt(tables.Now(), time.Minute); n > 0 {
			t.Errorf("%d connections are still followed", n)
		}
	})
}

// A new stream that is rejected cannot be answered ahead of a gap: it comes again.
func TestHTTP2RejectedAheadOfAGap(t *testing.T) {
	policy := http2Policy()
	policy.Existing = true
	at(t, places[:1], policy, ledger.Verdict{}, func(t *testing.T, c *conn) {
		h := c.openHTTP2(whole)
		h.client.headers(1, false, ":method", "POST", ":path", "/").data(1, true, strings.Repeat("x", 5000))
		all := h.cut(h.fromClient, h.client.take())
		next := h.fromClient(psh|ack, h.client.get(3).take())
		h.arrive(all[0])
		h.r.d.SetVerdict(1, openFor(time.Minute))
		for range 2 {
			h.did(h.put(h.out, next, h.ctx), verdictDrop, "egress drop withheld")
		}
		h.arrive(all[1:]...)
		h.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Closed, Generation: 2})
		h.arrive(next)
		h.answers(h.backend.headers(1, true, ":status", "200").headers(3, true, ":status", "200"))
		h.end()
		w := outcomes(2, 1, 0, "2xx", "2xx") // the first belongs to an earlier generation
		h.r.wantTotals(w)
		h.r.forgotten()
	})
}

// A backend may send its settings, and more, before the client's preface.
func TestHTTP2BackendSpeaksFirst(t *testing.T) {
	greetings := map[string]func(p *peer){
		"settings": func(p *peer) {
			must(p.framer.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 100}))
		},
		"settings, a window and a ping": func(p *peer) {
			must(p.framer.WriteSettings())
			must(p.framer.WriteWindowUpdate(0, 1<<20))
			must(p.framer.WritePing(false, [8]byte{1, 2, 3}))
		},
		"large settings": func(p *peer) { must(p.framer.WriteSettings(make([]http2.Setting, 100)...)) },
	}
	for name, greet := range greetings {
		p := newPeer()
		greet(p)
		greeting := p.take()
		at(t, places[:1], http2Policy(), ledger.Verdict{}, func(t *testing.T, c *conn) {
			for _, size := range []int{len(greeting), 1, 5, 10} {
				// The preface arrives after so many bytes of the greeting.
				for early := 0; early <= len(greeting); early += 1 + len(greeting)/40 {
					h := &h2{conn: c, client: newPeer(), backend: newPeer(), carry: func(n int) []span { return pieces(n, size) }}
					c.r.t = t
					c.client = netipPort(c.client, c.client.Port()+1)
					c.r.put(c.backend, http2Policy(), ledger.Verdict{})
					c.seq = 1000
					c.open()
					h.toClient(greeting[:early])
					must(h.client.framer.WriteSettings())
					h.toBackend(http2.ClientPreface + h.client.call(1).take())
					h.toClient(greeting[early:])
					must(h.backend.framer.WriteSettingsAck())
					h.answers(h.backend.reply(1, "14"))
					h.end()
					h.r.wantTotals(outcomes(1, 1, 1, "grpc-unavailable"))
					h.r.forgotten()
					if t.Failed() {
						t.Fatalf("%s, of which %d bytes come early, in pieces of %d", name, early, size)
					}
				}
			}
		})
	}
}

// What a backend sends first may be no frame: then nothing that it sends can be read.
func TestHTTP2BackendSpeaksAnotherProtocol(t *testing.T) {
	at(t, places[:1], http2Policy(), ledger.Verdict{}, func(t *testing.T, c *conn) {
		h := &h2{conn: c.open(), client: newPeer(), backend: newPeer(), carry: whole}
		h.toClient("220 mail.example.com ESMTP\r\n")
		must(h.client.framer.WriteSettings())
		h.toBackend(http2.ClientPreface + h.client.get(1).take())
		h.toClient("500 unrecognized command\r\n")
		h.backendFIN()
		h.clientFIN()
		h.sweep()
		h.r.wantTotals(outcomes(1, 0, 0, "unknown"))
		h.r.forgotten()
	})
}
