package loader

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// peer is one end of an HTTP/2 connection, as far as its frames go.
type peer struct {
	buf     bytes.Buffer
	framer  *http2.Framer
	block   bytes.Buffer
	encoder *hpack.Encoder
}

func newPeer() *peer {
	p := &peer{}
	p.framer = http2.NewFramer(&p.buf, nil)
	p.framer.AllowIllegalWrites = true
	p.encoder = hpack.NewEncoder(&p.block)
	return p
}

// take returns the frames that were written since the last call.
func (p *peer) take() string {
	s := p.buf.String()
	p.buf.Reset()
	return s
}

// fields encodes a header list of name, value, name, value.
func (p *peer) fields(list ...string) []byte {
	p.block.Reset()
	for i := 0; i < len(list); i += 2 {
		if err := p.encoder.WriteField(hpack.HeaderField{Name: list[i], Value: list[i+1]}); err != nil {
			panic(err) // a buffer takes everything
		}
	}
	return bytes.Clone(p.block.Bytes())
}

// headers writes a HEADERS frame.
func (p *peer) headers(stream uint32, end bool, list ...string) *peer {
	must(p.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: p.fields(list...), EndStream: end, EndHeaders: true,
	}))
	return p
}

func (p *peer) data(stream uint32, end bool, body string) *peer {
	must(p.framer.WriteData(stream, end, []byte(body)))
	return p
}

func (p *peer) reset(stream uint32, code http2.ErrCode) *peer {
	must(p.framer.WriteRSTStream(stream, code))
	return p
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// call writes a request of a gRPC client.
func (p *peer) call(stream uint32) *peer {
	return p.headers(stream, false, ":method", "POST", ":scheme", "http", ":path", "/shop.Orders/Get", ":authority", "orders",
		"content-type", "application/grpc", "te", "trailers").data(stream, true, "\x00\x00\x00\x00\x02\x08\x01")
}

// get writes a request without a body.
func (p *peer) get(stream uint32) *peer {
	return p.headers(stream, true, ":method", "GET", ":scheme", "http", ":path", "/orders", ":authority", "orders")
}

// reply writes the response to a gRPC call.
func (p *peer) reply(stream uint32, code string) *peer {
	return p.headers(stream, false, ":status", "200", "content-type", "application/grpc").
		data(stream, false, "\x00\x00\x00\x00\x02\x08\x01").headers(stream, true, "grpc-status", code, "grpc-message", "")
}

// h2 is a connection whose ends have exchanged their settings.
type h2 struct {
	*conn
	client, backend *peer
	carry           carriage
}

// span are bytes of what one side sends: those from..to-1.
type span struct{ from, to int }

// carriage cuts n bytes into the segments that carry them, in their order.
type carriage func(n int) []span

// pieces cuts n bytes into segments of at most size bytes.
func pieces(n, size int) []span {
	var all []span
	for from := 0; from < n; from += size {
		all = append(all, span{from, min(from+size, n)})
	}
	return all
}

func whole(n int) []span { return pieces(n, max(n, 1)) }

// twice sends each segment again after the next one.
func twice(n int) []span {
	var all []span
	var last span
	for _, p := range pieces(n, 20) {
		all = append(all, p, last)
		last = p
	}
	return append(all, last)
}

// merged sends each segment again together with the next one, as TCP does after a time-out.
func merged(n int) []span {
	all := pieces(n, 20)
	for i := 1; i < len(all); i++ {
		all[i].from -= 20
	}
	return all
}

// reversed sends the last segment first. There are as many as are kept ahead of a gap.
func reversed(n int) []span {
	all := pieces(n, max(7, (n+31)/32))
	slices.Reverse(all)
	return all
}

// swapped sends the second byte before the first, the fourth before the third, and so on.
func swapped(n int) []span {
	all := pieces(n, 1)
	for pair := range slices.Chunk(all, 2) {
		slices.Reverse(pair)
	}
	return all
}

// carriages are ways to send the same bytes.
var carriages = []struct {
	name string
	cut  carriage
}{
	{"byte by byte", func(n int) []span { return pieces(n, 1) }},
	{"pieces", func(n int) []span { return pieces(n, 7) }},
	{"twice", twice},
	{"merged", merged},
	{"reversed", reversed},
	{"swapped", swapped},
}

// toBackend carries bytes of the client. All segments must be passed.
func (h *h2) toBackend(data string) {
	h.r.t.Helper()
	base := h.seq
	for _, p := range h.carry(len(data)) {
		s := h.segment(psh|ack, data[p.from:p.to])
		s.seq = base + uint32(p.from)
		if res := h.put(h.out, s, h.ctx); res.verdict != verdictNext || !res.same {
			h.r.t.Fatalf("%s: verdict %d, %v", s, res.verdict, res.counted)
		}
	}
	h.seq = base + uint32(len(data))
}

// toClient carries bytes of the backend.
func (h *h2) toClient(data string) {
	h.r.t.Helper()
	for _, p := range h.carry(len(data)) {
		if res := h.recvAt(h.ack+uint32(p.from), psh|ack, data[p.from:p.to]); res.verdict != verdictNext || !res.same {
			h.r.t.Fatalf("verdict %d, %v", res.verdict, res.counted)
		}
	}
	h.ack += uint32(len(data))
}

func (c *conn) openHTTP2(carry carriage) *h2 {
	c.r.t.Helper()
	return c.connectHTTP2("admitted", carry)
}

// connectHTTP2 is openHTTP2 for a SYN that passes for another reason.
func (c *conn) connectHTTP2(reason string, carry carriage) *h2 {
	c.r.t.Helper()
	c.connect(reason)
	return c.exchangeSettings(carry)
}

// exchangeSettings begins HTTP/2 on a connection.
func (c *conn) exchangeSettings(carry carriage) *h2 {
	c.r.t.Helper()
	h := &h2{conn: c, client: newPeer(), backend: newPeer(), carry: carry}
	must(h.client.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}))
	h.toBackend(http2.ClientPreface + h.client.take())
	must(h.backend.framer.WriteSettings())
	must(h.backend.framer.WriteSettingsAck())
	h.answers(h.backend)
	return h
}

// asks sends what the client has written.
func (h *h2) asks(p *peer) { h.r.t.Helper(); h.toBackend(p.take()) }

// answers sends what the backend has written.
func (h *h2) answers(p *peer) { h.r.t.Helper(); h.toClient(p.take()) }

// clientFIN and the others end a direction or the connection.
func (h *h2) clientFIN()  { h.r.t.Helper(); h.passed(h.send(fin|ack, ""), h.hookOut, "flow") }
func (h *h2) clientRST()  { h.r.t.Helper(); h.passed(h.send(rst|ack, ""), h.hookOut, "flow") }
func (h *h2) backendFIN() { h.r.t.Helper(); h.passed(h.recv(fin|ack, ""), h.hookIn, "flow") }
func (h *h2) backendRST() { h.r.t.Helper(); h.passed(h.recv(rst|ack, ""), h.hookIn, "flow") }

// sweep runs the sweep that the programs have asked for.
func (h *h2) sweep() { h.r.t.Helper(); h.r.sweepAt(tables.Now(), time.Minute) }

// end closes the connection from both sides.
func (h *h2) end() {
	h.r.t.Helper()
	h.clientFIN()
	h.backendFIN()
	h.passed(h.send(ack, ""), h.hookOut, "untracked")
	h.sweep()
}

// waited makes the pending requests of all streams ones that were sent so long ago.
func (h *h2) waited(d time.Duration) {
	h.r.t.Helper()
	for key, s := range h.r.streams() {
		s.Request.Sent -= uint64(d)
		s.Request.Started -= uint64(d)
		if err := h.r.d.objs.Streams.Update(key, s, ebpf.UpdateExist); err != nil {
			h.r.t.Fatal(err)
		}
	}
}

// streams returns the entries of all streams.
func (r *rig) streams() map[bpf.CStreamKey]bpf.CStream {
	r.t.Helper()
	all := map[bpf.CStreamKey]bpf.CStream{}
	var key bpf.CStreamKey
	var s bpf.CStream
	it := r.d.objs.Streams.Iterate()
	for it.Next(&key, &s) {
		all[key] = s
	}
	if err := it.Err(); err != nil {
		r.t.Fatal(err)
	}
	return all
}

// forgotten checks that nothing is left of the connections that have ended.
func (r *rig) forgotten() {
	r.t.Helper()
	r.sweepAt(tables.Now()+int64(2*time.Second), time.Minute)
	if n := len(r.streams()); n > 0 {
		r.t.Errorf("%d streams are left", n)
	}
	if n := node(r.t, r.d).Http2Count; n > 0 {
		r.t.Errorf("%d connections are left", n)
	}
}

// http2Policy judges as the defaults for gRPC do.
func http2Policy() tables.PolicySettings {
	var failure breaker.ResultSet
	failure.AddRange(500, 599)
	for _, r := range []breaker.Result{
		breaker.ResultReset, breaker.ResultTimeout, breaker.ResultAbandoned, breaker.ResultH2Refused, breaker.ResultH2Reset,
		breaker.ResultGRPC(2), breaker.ResultGRPC(4), breaker.ResultGRPC(13), breaker.ResultGRPC(14), breaker.ResultGRPC(15),
	} {
		failure.Add(r)
	}
	return tables.PolicySettings{Patience: patience, Timeout: timeout, Slow: slow, Failure: failure}
}

// Times that no test takes by itself, on a slow machine either, and that a machine which has just booted has run.
const (
	patience = 5 * time.Second
	slow     = 8 * time.Second
	timeout  = 12 * time.Second
)

// http2Case is what happens on one connection, and what is counted once it is over.
type http2Case struct {
	name string
	play func(h *h2)
	want want
}

// checkHTTP2 runs each case at each place, and at one of them with each carriage.
func checkHTTP2(t *testing.T, cases []http2Case) {
	t.Helper()
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			run := func(carry carriage) func(t *testing.T, c *conn) {
				return func(t *testing.T, c *conn) {
					h := c.openHTTP2(carry)
					tc.play(h)
					h.r.wantTotals(tc.want)
					h.r.forgotten()
				}
			}
			everywhere(t, http2Policy(), ledger.Verdict{}, run(whole))
			for _, carry := range carriages {
				t.Run(carry.name, func(t *testing.T) {
					at(t, places[:1], http2Policy(), ledger.Verdict{}, run(carry.cut))
				})
			}
		})
	}
}

// serve answers a request of a stream, and ends the connection.
func serve(request func(p *peer), response func(p *peer)) func(h *h2) {
	return func(h *h2) {
		request(h.client)
		h.asks(h.client)
		response(h.backend)
		h.answers(h.backend)
		h.end()
	}
}

func get1(p *peer)  { p.get(1) }
func call1(p *peer) { p.call(1) }

// responses are those that end a stream alone.
func TestHTTP2Responses(t *testing.T) {
	long := strings.Repeat("x", 300)
	cases := []http2Case{
		{"an HTTP response", serve(get1, func(p *peer) {
			p.headers(1, false, ":status", "200").data(1, true, "ok")
		}), outcomes(1, 1, 0, "2xx")},
		{"a response without a body", serve(get1, func(p *peer) { p.headers(1, true, ":status", "503") }), outcomes(1, 1, 1, "5xx")},
		{"a status that is no entry of the table", serve(get1, func(p *peer) {
			p.headers(1, true, ":status", "599")
		}), outcomes(1, 1, 1, "5xx")},
		{"interim responses", serve(get1, func(p *peer) {
			p.headers(1, false, ":status", "100").headers(1, false, ":status", "103", "link", "</style.css>").
				headers(1, false, ":status", "404").data(1, true, "")
		}), outcomes(1, 1, 0, "4xx")},
		{"interim responses only", func(h *h2) {
			h.asks(h.client.get(1))
			h.answers(h.backend.headers(1, false, ":status", "103"))
			h.backendFIN()
			h.clientFIN()
			h.sweep()
		}, outcomes(1, 1, 1, "reset")},
		{"trailers of an HTTP response", serve(get1, func(p *peer) {
			p.headers(1, false, ":status", "500").data(1, false, long).headers(1, true, "checksum", "77")
		}), outcomes(1, 1, 1, "5xx")},
		{"a request with a body and trailers", serve(func(p *peer) {
			p.headers(1, false, ":method", "PUT", ":path", "/", "trailer", "checksum").data(1, false, long).data(1, false, "").
				headers(1, true, "checksum", "77")
		}, func(p *peer) { p.headers(1, true, ":status", "201") }), outcomes(1, 1, 0, "2xx")},
		{"a gRPC call without trailers", serve(call1, func(p *peer) {
			p.headers(1, false, ":status", "200", "content-type", "application/grpc").data(1, true, long)
		}), outcomes(1, 0, 0, "unknown")},
		{"a gRPC call with trailers without a code", serve(call1, func(p *peer) {
			p.headers(1, false, ":status", "200", "content-type", "application/grpc+proto").data(1, false, long).
				headers(1, true, "checksum", "77")
		}), outcomes(1, 0, 0, "unknown")},
		{"a gRPC call that a proxy rejects", serve(call1, func(p *peer) {
			p.headers(1, false, ":status", "502", "content-type", "text/html").data(1, true, long)
		}), outcomes(1, 1, 1, "5xx")},
		{"a gRPC call with a code and trailers that the server streams", serve(call1, func(p *peer) {
			p.headers(1, false, ":status", "200", "content-type", "application/grpc")
			for range 5 {
				p.data(1, false, long)
			}
			p.headers(1, true, "grpc-status", "14")
		}), outcomes(1, 1, 1, "grpc-unavailable")},
		{"many streams", serve(func(p *peer) {
			for s := range uint32(20) {
				p.get(2*s + 1)
			}
		}, func(p *peer) {
			for s := range uint32(20) {
				p.headers(2*(19-s)+1, false, ":status", "200")
			}
			for s := range uint32(20) {
				p.data(2*s+1, true, "ok")
			}
		}), outcomes(20, 20, 0, strings.Split(strings.Repeat("2xx ", 20), " ")[:20]...)},
		{"the last stream", serve(func(p *peer) { p.get(1<<31 - 1) }, func(p *peer) {
			p.headers(1<<31-1, true, ":status", "500")
		}), outcomes(1, 1, 1, "5xx")},
		{"padding, priority, continuations, a pushed stream and unknown frames", serve(func(p *peer) {
			block := p.fields(":method", "GET", ":path", "/", "cookie", long)
			must(p.framer.WriteHeaders(http2.HeadersFrameParam{
				StreamID: 1, BlockFragment: block[:2], PadLength: 200,
				Priority: http2.PriorityParam{StreamDep: 3, Weight: 7},
			}))
			must(p.framer.WriteContinuation(1, false, block[2:2]))
			must(p.framer.WriteContinuation(1, false, block[2:100]))
			must(p.framer.WriteContinuation(1, true, block[100:]))
			must(p.framer.WriteDataPadded(1, false, []byte(long), make([]byte, 99)))
			must(p.framer.WriteDataPadded(1, true, nil, make([]byte, 255)))
			must(p.framer.WritePriority(5, http2.PriorityParam{StreamDep: 1}))
			must(p.framer.WriteRawFrame(0xbe, 0xff, 0, []byte(long)))
			must(p.framer.WritePing(false, [8]byte{1: 1, 7: 1}))
			must(p.framer.WriteWindowUpdate(0, 77))
		}, func(p *peer) {
			push := p.fields(":method", "GET", ":path", "/style.css", "grpc-status", "13")
			must(p.framer.WritePushPromise(http2.PushPromiseParam{
				StreamID: 1, PromiseID: 2, BlockFragment: push[:3], PadLength: 9,
			}))
			must(p.framer.WriteContinuation(1, true, push[3:]))
			p.headers(2, false, ":status", "500").data(2, true, "ok")
			block := p.fields(":status", "200", "content-type", "application/grpc", "link", long)
			must(p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:1], PadLength: 1}))
			must(p.framer.WriteContinuation(1, true, block[1:]))
			must(p.framer.WriteRawFrame(0xbe, 1, 1, []byte(long)))
			must(p.framer.WriteDataPadded(1, false, []byte(long), make([]byte, 255)))
			block = p.fields("grpc-status", "13", "grpc-message", long)
			must(p.framer.WriteHeaders(http2.HeadersFrameParam{
				StreamID: 1, BlockFragment: block, EndHeaders: true, EndStream: true, PadLength: 255,
				Priority: http2.PriorityParam{StreamDep: 3},
			}))
		}), outcomes(1, 1, 1, "grpc-internal")},
	}
	for code := range breaker.GRPCCodes {
		name, failures := breaker.ResultGRPC(code).String(), uint64(0)
		if code == 2 || code == 4 || code >= 13 && code <= 15 {
			failures = 1
		}
		digits := breaker.Result(100 + code).String()[1:]
		if code < 10 {
			digits = digits[1:]
		}
		cases = append(cases,
			http2Case{"trailers with " + name, serve(call1, func(p *peer) { p.reply(1, digits) }), outcomes(1, 1, failures, name)},
			http2Case{"trailers only with " + name, serve(call1, func(p *peer) {
				p.headers(1, true, ":status", "200", "content-type", "application/grpc", "grpc-status", digits)
			}), outcomes(1, 1, failures, name)})
	}
	checkHTTP2(t, cases)
}

// Streams, and connections with open streams, end in other ways.
func TestHTTP2Endings(t *testing.T) {
	grpcHeaders := func(h *h2, stream uint32) {
		h.answers(h.backend.headers(stream, false, ":status", "200", "content-type", "application/grpc"))
	}
	first := func(h *h2) {
		h.asks(h.client.get(1))
		h.answers(h.backend.headers(1, true, ":status", "200"))
	}
	checkHTTP2(t, []http2Case{
		{"the backend refuses a stream", serve(call1, func(p *peer) {
			p.reset(1, http2.ErrCodeRefusedStream)
		}), outcomes(1, 1, 1, "h2-refused")},
		{"the backend resets a stream", serve(call1, func(p *peer) { p.reset(1, http2.ErrCodeInternal) }), outcomes(1, 1, 1, "h2-reset")},
		{"the backend resets a stream before its trailers", serve(call1, func(p *peer) {
			p.headers(1, false, ":status", "200", "content-type", "application/grpc").reset(1, http2.ErrCodeInternal)
		}), outcomes(1, 1, 1, "h2-reset")},
		{"the backend resets a stream within the body of an HTTP response", serve(get1, func(p *peer) {
			p.headers(1, false, ":status", "200").data(1, false, "o").reset(1, http2.ErrCodeInternal)
		}), outcomes(1, 1, 0, "2xx")},
		{"the backend needs no more of a request", serve(func(p *peer) {
			p.headers(1, false, ":method", "POST").data(1, false, "the beginning")
		}, func(p *peer) {
			p.headers(1, true, ":status", "413").reset(1, http2.ErrCodeNo)
		}), outcomes(1, 1, 0, "4xx")},
		{"the client cancels", func(h *h2) {
			h.asks(h.client.call(1))
			h.waited(patience - time.Second)
			h.asks(h.client.reset(1, http2.ErrCodeCancel))
			h.answers(h.backend.reset(1, http2.ErrCodeCancel))
			h.end()
		}, outcomes(1, 0, 0, "aborted")},
		{"the client has no more patience", func(h *h2) {
			h.asks(h.client.call(1))
			h.waited(patience)
			h.asks(h.client.reset(1, http2.ErrCodeCancel))
			h.end()
		}, outcomes(1, 1, 1, "abandoned")},
		{"the client cancels after response headers", func(h *h2) {
			h.asks(h.client.call(1))
			grpcHeaders(h, 1)
			h.waited(time.Hour)
			h.asks(h.client.reset(1, http2.ErrCodeCancel))
			h.end()
		}, outcomes(1, 0, 0, "aborted")},
		{"the client cancels after the headers of an HTTP response", func(h *h2) {
			h.asks(h.client.get(1))
			h.answers(h.backend.headers(1, false, ":status", "500"))
			h.waited(time.Hour)
			h.asks(h.client.reset(1, http2.ErrCodeCancel))
			h.end()
		}, outcomes(1, 1, 1, "5xx")},
		{"the last byte of a request restarts the patience", func(h *h2) {
			h.asks(h.client.headers(1, false, ":method", "POST"))
			h.waited(time.Hour)
			h.asks(h.client.data(1, true, "body"))
			h.asks(h.client.reset(1, http2.ErrCodeCancel))
			h.end()
		}, outcomes(1, 0, 0, "aborted")},
		{"the client closes", func(h *h2) {
			h.asks(h.client.call(1).call(3).call(5))
			h.answers(h.backend.reply(5, "0"))
			h.clientFIN()
			h.backendFIN()
			h.sweep()
		}, outcomes(3, 1, 0, "aborted", "aborted", "grpc-ok")},
		{"the client resets", func(h *h2) {
			h.asks(h.client.call(1).call(3))
			grpcHeaders(h, 3)
			h.clientRST()
			h.sweep()
		}, outcomes(2, 0, 0, "aborted", "aborted")},
		{"the client resets after its patience", func(h *h2) {
			h.asks(h.client.call(1).call(3))
			grpcHeaders(h, 3)
			h.waited(patience)
			h.clientRST()
			h.sweep()
		}, outcomes(2, 1, 1, "abandoned", "aborted")},
		{"the client closes after its patience, and the backend does nothing", func(h *h2) {
			h.asks(h.client.call(1).call(3))
			h.waited(patience)
			h.asks(h.client.call(5))
			h.clientFIN()
			h.sweep()
			h.r.wantTotals(want{
				Connections: 1, InFlight: 1, Admitted: 3, Judged: 2, Failures: 2, Outcomes: map[string]uint64{"abandoned": 2},
			})
			h.r.sweepAt(tables.Now()+int64(timeout), time.Minute)
			h.clientRST()
		}, outcomes(3, 3, 3, "abandoned", "abandoned", "timeout")},
		{"a half-closed client gets its response", func(h *h2) {
			h.asks(h.client.call(1))
			h.clientFIN()
			h.answers(h.backend.reply(1, "14"))
			h.backendFIN()
			h.sweep()
		}, outcomes(1, 1, 1, "grpc-unavailable")},
		{"the backend closes", func(h *h2) {
			h.asks(h.client.call(1).call(3).call(5))
			h.answers(h.backend.reply(3, "0"))
			grpcHeaders(h, 5)
			h.backendFIN()
			h.sweep()
			h.clientFIN()
			h.passed(h.recv(ack, ""), h.hookIn, "untracked")
		}, outcomes(3, 3, 2, "grpc-ok", "reset", "reset")},
		{"the backend resets", func(h *h2) {
			first(h)
			h.asks(h.client.call(3).call(5))
			grpcHeaders(h, 5)
			h.backendRST()
			h.sweep()
		}, outcomes(3, 3, 2, "2xx", "reset", "reset")},
		{"requests cross the FIN of the backend", func(h *h2) {
			first(h)
			h.asks(h.client.call(3))
			acked := h.seq
			h.asks(h.client.call(5).call(7))
			h.passed(h.put(h.in, segment{
				src: h.conn.backend, dst: h.conn.client, seq: h.ack, ack: acked, flags: fin | ack, options: h.options,
			}, skbContext{}), h.hookIn, "flow")
			h.sweep()
			h.asks(h.client.call(9))
			h.sweep()
			h.ack++
			h.clientRST()
		}, outcomes(5, 2, 1, "2xx", "reset", "raced", "raced", "raced")},
		{"requests cross the RST of the backend", func(h *h2) {
			first(h)
			acked := h.seq
			h.asks(h.client.call(3))
			h.passed(h.put(h.in, segment{
				src: h.conn.backend, dst: h.conn.client, seq: h.ack, ack: acked, flags: rst | ack, options: h.options,
			}, skbContext{}), h.hookIn, "flow")
			h.sweep()
		}, outcomes(2, 1, 0, "2xx", "raced")},
		{"a RST without an acknowledgement", func(h *h2) {
			first(h)
			h.asks(h.client.call(3))
			h.passed(h.recv(rst, ""), h.hookIn, "flow")
			h.sweep()
		}, outcomes(2, 2, 1, "2xx", "reset")},
		{"a request that the backend did not acknowledge on a new connection", func(h *h2) {
			acked := h.seq
			h.asks(h.client.call(1))
			h.passed(h.put(h.in, segment{
				src: h.conn.backend, dst: h.conn.client, seq: h.ack, ack: acked, flags: rst | ack, options: h.options,
			}, skbContext{}), h.hookIn, "flow")
			h.sweep()
		}, outcomes(1, 1, 1, "reset")},
		{"the backend goes away", func(h *h2) {
			h.asks(h.client.call(1).call(3).call(5))
			must(h.backend.framer.WriteGoAway(1<<31-1, http2.ErrCodeNo, []byte("soon")))
			h.answers(h.backend)
			must(h.backend.framer.WriteGoAway(3, http2.ErrCodeNo, nil))
			h.answers(h.backend)
			h.sweep()
			h.asks(h.client.call(7))
			h.sweep()
			h.answers(h.backend.reply(1, "0"))
			h.backendFIN()
			h.sweep()
			h.clientFIN()
		}, outcomes(4, 2, 1, "grpc-ok", "reset", "raced", "raced")},
		{"time-outs", func(h *h2) {
			h.asks(h.client.call(1).call(3).call(5).get(7))
			grpcHeaders(h, 3)
			h.answers(h.backend.headers(7, false, ":status", "200"))
			h.waited(timeout)
			h.asks(h.client.call(9))
			h.sweep()
			h.answers(h.backend.reply(1, "0").data(3, false, "x").headers(3, true, "grpc-status", "5").reply(9, "0"))
			h.end()
		}, slowly(1, outcomes(5, 5, 2, "timeout", "timeout", "grpc-not-found", "2xx", "grpc-ok"))},
	})
}

func slowly(n uint64, w want) want { w.Slow = n; return w }

// HTTP responses are slow by the time of their headers, those of gRPC by the time of their trailers.
func TestSlowStreams(t *testing.T) {
	checkHTTP2(t, []http2Case{
		{"HTTP", func(h *h2) {
			h.asks(h.client.get(1).get(3))
			h.answers(h.backend.headers(1, false, ":status", "200"))
			h.waited(slow)
			h.answers(h.backend.headers(3, false, ":status", "200"))
			h.answers(h.backend.data(1, true, "ok").data(3, true, "ok"))
			h.end()
		}, slowly(1, outcomes(2, 2, 0, "2xx", "2xx"))},
		{"gRPC", func(h *h2) {
			h.asks(h.client.call(1).call(3))
			h.answers(h.backend.headers(1, false, ":status", "200", "content-type", "application/grpc"))
			h.answers(h.backend.reply(3, "0"))
			h.waited(slow)
			h.answers(h.backend.data(1, false, "x").headers(1, true, "grpc-status", "0"))
			h.end()
		}, slowly(1, outcomes(2, 2, 0, "grpc-ok", "grpc-ok"))},
	})
}

// The oldest stream without response headers is the oldest pending request.
func TestPendingStreams(t *testing.T) {
	at(t, places[:1], http2Policy(), ledger.Verdict{}, func(t *testing.T, c *conn) {
		h := c.openHTTP2(whole)
		h.asks(h.client.call(1))
		h.answers(h.backend.headers(1, false, ":status", "200", "content-type", "application/grpc"))
		h.waited(5 * time.Second)
		h.asks(h.client.call(3))
		h.waited(4 * time.Second)
		h.asks(h.client.call(5))
		h.sweep()
		c1 := element[bpf.CCircuit](t, h.r.d.objs.Circuits, 1)
		age := time.Duration(uint64(tables.Now()) - c1.PendingSince)
		if age < 4*time.Second || age > 5*time.Second || c1.PendingSweep != node(t, h.r.d).Sweeps {
			t.Errorf("the oldest request is pending for %s", age)
		}
		h.answers(h.backend.headers(1, true, "grpc-status", "0").reply(3, "0").reply(5, "0"))
		h.sweep()
		if c1 := element[bpf.CCircuit](t, h.r.d.objs.Circuits, 1); c1.PendingSweep == node(t, h.r.d).Sweeps {
			t.Error("a request is pending after all were answered")
		}
		h.end()
	})
}
