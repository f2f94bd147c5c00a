package loader

import (
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// frame is a frame of any type, with any length in its header.
func rawFrame(length int, kind http2.FrameType, flags http2.Flags, stream uint32, payload string) string {
	return string([]byte{
		byte(length >> 16), byte(length >> 8), byte(length), byte(kind), byte(flags),
		byte(stream >> 24), byte(stream >> 16), byte(stream >> 8), byte(stream),
	}) + payload
}

// What is no HTTP/2 passes and is counted. Of the streams in flight nothing more is known.
func TestHTTP2Malformed(t *testing.T) {
	const end = http2.FlagHeadersEndHeaders
	for name, bad := range map[string]string{
		"HEADERS without a stream":       rawFrame(1, http2.FrameHeaders, end, 0, "\x82"),
		"DATA without a stream":          rawFrame(1, http2.FrameData, 0, 0, "x"),
		"RST_STREAM without a stream":    rawFrame(4, http2.FrameRSTStream, 0, 0, "\x00\x00\x00\x08"),
		"SETTINGS on a stream":           rawFrame(0, http2.FrameSettings, 0, 1, ""),
		"GOAWAY on a stream":             rawFrame(8, http2.FrameGoAway, 0, 1, "\x00\x00\x00\x00\x00\x00\x00\x00"),
		"CONTINUATION without HEADERS":   rawFrame(1, http2.FrameContinuation, end, 1, "\x82"),
		"DATA within a header block":     rawFrame(1, http2.FrameHeaders, 0, 7, "\x82") + rawFrame(1, http2.FrameData, 0, 7, "x"),
		"CONTINUATION of another stream": rawFrame(1, http2.FrameHeaders, 0, 7, "\x82") + rawFrame(1, http2.FrameContinuation, end, 9, "x"),
		"a short RST_STREAM":             rawFrame(3, http2.FrameRSTStream, 0, 1, "xxx"),
		"a short GOAWAY":                 rawFrame(7, http2.FrameGoAway, 0, 0, "xxxxxxx"),
		"more padding than payload":      rawFrame(3, http2.FrameHeaders, end|http2.FlagHeadersPadded, 7, "\x09\x82\x82"),
		"no room for the padding":        rawFrame(0, http2.FrameHeaders, end|http2.FlagHeadersPadded, 7, ""),
		"no room for a priority":         rawFrame(4, http2.FrameHeaders, end|http2.FlagHeadersPriority, 7, "xxxx"),
		"a header block with index 0":    rawFrame(1, http2.FrameHeaders, end, 7, "\x80"),
		"a header block that is cut":     rawFrame(2, http2.FrameHeaders, end, 7, "\x40\x05"),
		"an endless number":              rawFrame(8, http2.FrameHeaders, end, 7, "\xff\xff\xff\xff\xff\xff\xff\xff"),
		"HTTP/1.1":                       "HTTP/1.1 400 Bad Request\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			for _, carry := range carriages[:1] {
				for side, send := range map[string]func(h *h2, data string){"client": (*h2).toBackend, "backend": (*h2).toClient} {
					at(t, places[:1], http2Policy(), ledger.Verdict{}, func(t *testing.T, c *conn) {
						h := c.openHTTP2(carry.cut)
						h.asks(h.client.get(1).call(3))
						h.answers(h.backend.headers(3, false, ":status", "200", "content-type", "application/grpc"))
						send(h, bad)
						send(h, rawFrame(0, http2.FrameSettings, http2.FlagSettingsAck, 0, ""))
						h.waited(timeout)
						h.sweep()
						got := h.r.totals(1)
						if n := h.r.d.Totals(1).Openings[tables.OpeningMalformed]; n != 1 {
							t.Errorf("%s: %d connections are malformed", side, n)
						}
						if got.InFlight != 0 || got.Judged != 0 || got.Outcomes["unknown"] != got.Admitted || got.Admitted < 2 {
							t.Errorf("%s: %+v", side, got)
						}
						// All passes, and nothing of it begins a stream.
						h.toBackend(newPeer().get(101).take())
						h.toClient(newPeer().headers(101, true, ":status", "503").take())
						h.clientRST()
						h.sweep()
						if now := h.r.totals(1); now.Admitted != got.Admitted || now.Judged != 0 {
							t.Errorf("%s: later frames count: %+v", side, now)
						}
						h.r.forgotten()
					})
				}
			}
		})
	}
}

// What is allowed, but more than anybody sends, is followed.
func TestHTTP2Excess(t *testing.T) {
	checkGaps(t, []http2Case{
		{"a header block of a megabyte", func(h *h2) {
			h.client.headers(1, false, ":method", "POST", ":path", "/")
			must(h.client.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, BlockFragment: []byte("\x82")}))
			h.asks(h.client)
			// A field of the table in each byte.
			for range 1 << 20 / 2800 {
				must(h.client.framer.WriteContinuation(1, false, []byte(strings.Repeat("\x82", 2800-9))))
				h.asks(h.client)
			}
			must(h.client.framer.WriteContinuation(1, true, nil))
			h.asks(h.client)
			h.answers(h.backend.headers(1, true, ":status", "431"))
			h.end()
		}, outcomes(1, 1, 0, "4xx")},
		{"a flood of empty continuations", func(h *h2) {
			must(h.backend.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, BlockFragment: []byte("\x88")}))
			h.asks(h.client.get(1))
			for range 20 {
				for range 300 {
					must(h.backend.framer.WriteContinuation(1, false, nil))
				}
				h.answers(h.backend)
			}
			must(h.backend.framer.WriteContinuation(1, true, nil))
			h.answers(h.backend)
			h.end()
		}, outcomes(1, 1, 0, "2xx")},
		{"a flood of settings", func(h *h2) {
			for range 20 {
				for range 300 {
					must(h.client.framer.WriteSettings())
				}
				h.asks(h.client)
			}
			h.asks(h.client.get(1))
			h.answers(h.backend.headers(1, true, ":status", "200"))
			h.end()
		}, outcomes(1, 1, 0, "2xx")},
		{"streams that are reset at once", func(h *h2) {
			for i := range uint32(100) {
				for s := range uint32(20) {
					h.client.get(2*(20*i+s)+1).reset(2*(20*i+s)+1, http2.ErrCodeCancel)
				}
				h.asks(h.client)
			}
			if n := len(h.r.streams()); n > 0 {
				h.r.t.Errorf("%d streams are left", n)
			}
			h.end()
		}, want{Admitted: 2000, Unjudged: 2000, Outcomes: map[string]uint64{"aborted": 2000}}},
		{"streams that no client may begin", func(h *h2) {
			h.asks(h.client.get(3))
			h.asks(h.client.get(1).get(2).get(4)) // an older one, and two of the backend's
			h.answers(h.backend.headers(1, true, ":status", "503").headers(2, true, ":status", "503").headers(3, true, ":status", "200"))
			h.end()
		}, outcomes(1, 1, 0, "2xx")},
		{"a response to no request", func(h *h2) {
			h.answers(h.backend.headers(1, true, ":status", "503").headers(2, true, ":status", "503").reset(3, http2.ErrCodeInternal))
			h.end()
		}, want{}},
		{"more streams than the table holds", func(h *h2) {
			for i := range uint32(flowMax / 20) {
				for s := range uint32(20) {
					h.client.get(2*(20*i+s) + 1)
				}
				h.asks(h.client)
			}
			h.asks(h.client.get(100001).get(100003))
			for len(h.r.streams()) < flowMax {
				h.asks(h.client.get(h.nextStream()))
			}
			full := h.r.d.Totals(1).InFlight
			h.asks(h.client.get(200001))
			if n := h.r.d.Totals(1).InFlight; n != full {
				h.r.t.Errorf("%d streams are in flight, %d before the table was full", n, full)
			}
			h.clientRST()
			h.sweep()
		}, want{Admitted: flowMax, Unjudged: flowMax, Outcomes: map[string]uint64{"aborted": flowMax}}},
	})
}

// nextStream returns a stream that no case has used.
func (h *h2) nextStream() uint32 {
	h.r.t.Helper()
	next := uint32(100005)
	for key := range h.r.streams() {
		next = max(next, key.Stream+2)
	}
	return next
}
