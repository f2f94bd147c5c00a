package loader

import (
	"bytes"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

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
}

func (c *conn) openHTTP2() *h2 {
	c.r.t.Helper()
	return c.connectHTTP2("admitted")
}

// connectHTTP2 is openHTTP2 for a SYN that passes for another reason.
func (c *conn) connectHTTP2(reason string) *h2 {
	c.r.t.Helper()
	c.connect(reason)
	h := &h2{conn: c, client: newPeer(), backend: newPeer()}
	must(h.client.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}))
	c.passed(c.send(psh|ack, http2.ClientPreface+h.client.take()), c.hookOut, "flow")
	must(h.backend.framer.WriteSettings())
	must(h.backend.framer.WriteSettingsAck())
	h.answers(h.backend)
	return h
}

// ask sends what the client has written, with new streams that are admitted.
func (h *h2) asks(p *peer) { h.r.t.Helper(); h.ask(p.take()) }

// answers sends what the backend has written.
func (h *h2) answers(p *peer) { h.r.t.Helper(); h.answer(p.take()) }

// end closes the connection from both sides.
func (h *h2) end() {
	h.r.t.Helper()
	h.passed(h.send(fin|ack, ""), h.hookOut, "flow")
	h.passed(h.recv(fin|ack, ""), h.hookIn, "flow")
	h.passed(h.send(ack, ""), h.hookOut, "untracked")
	h.r.sweepAt(tables.Now(), 0)
}

func TestHTTP2Outcomes(t *testing.T) {
	for _, tc := range []struct {
		name string
		play func(h *h2)
		want want
	}{
		{"responses", func(h *h2) {
			h.asks(h.client.get(1))
			h.answers(h.backend.headers(1, false, ":status", "200").data(1, true, "ok"))
			h.asks(h.client.get(3))
			h.answers(h.backend.headers(3, true, ":status", "503"))
			h.end()
		}, outcomes(2, 2, 1, "2xx", "5xx")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			everywhere(t, tables.PolicySettings{}, ledger.Verdict{}, func(t *testing.T, c *conn) {
				h := c.openHTTP2()
				h.r.t = t
				tc.play(h)
				h.r.wantTotals(tc.want)
			})
		})
	}
}
