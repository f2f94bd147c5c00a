package kernel

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// message is what one side of an HTTP/2 connection sends on a stream: its frames, written by a peer.
type message func(p *peer, stream uint32)

// peer writes the frames of one side of a connection.
type peer struct {
	out, block bytes.Buffer
	framer     *http2.Framer
	encoder    *hpack.Encoder
}

func newPeer() *peer {
	p := &peer{}
	p.framer, p.encoder = http2.NewFramer(&p.out, nil), hpack.NewEncoder(&p.block)
	return p
}

// take returns what was written since the last call.
func (p *peer) take() string {
	s := p.out.String()
	p.out.Reset()
	return s
}

// headers writes a HEADERS frame of name, value, name, value.
func (p *peer) headers(stream uint32, end bool, list ...string) {
	p.block.Reset()
	for i := 0; i < len(list); i += 2 {
		must(p.encoder.WriteField(hpack.HeaderField{Name: list[i], Value: list[i+1]}))
	}
	must(p.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: p.block.Bytes(), EndStream: end, EndHeaders: true,
	}))
}

func must(err error) {
	if err != nil {
		panic(err) // a buffer takes everything
	}
}

func get2(p *peer, stream uint32) {
	p.headers(stream, true, ":method", "GET", ":scheme", "http", ":path", "/orders", ":authority", "orders.example.com",
		"user-agent", "bench")
}

func ok2(p *peer, stream uint32) {
	p.headers(stream, false, ":status", "200", "content-type", "text/plain", "content-length", "2")
	must(p.framer.WriteData(stream, true, []byte("ok")))
}

func call(p *peer, stream uint32) {
	p.headers(stream, false, ":method", "POST", ":scheme", "http", ":path", "/shop.Orders/Get", ":authority", "orders.example.com",
		"content-type", "application/grpc", "user-agent", "grpc-go/1.85.0", "te", "trailers")
	must(p.framer.WriteData(stream, true, []byte("\x00\x00\x00\x00\x02\x08\x01")))
}

func reply(p *peer, stream uint32) {
	p.headers(stream, false, ":status", "200", "content-type", "application/grpc")
	must(p.framer.WriteData(stream, false, []byte("\x00\x00\x00\x00\x02\x08\x01")))
	p.headers(stream, true, "grpc-status", "0", "grpc-message", "")
}

// connectHTTP2 opens a connection on which one request was made and answered, so that header tables have the fields, and
// returns the packets of the second one.
func (s *site) connectHTTP2(f family, client netip.AddrPort, request, response message) []step {
	backend, c, b := f.of(closed), newPeer(), newPeer()
	seq, acked := uint32(2), uint32(5001)
	sent := func(p *peer, own, other *uint32) string {
		payload := p.take()
		*own += uint32(len(payload))
		return payload
	}
	s.put("egress", frame(client, backend, syn, 1, 0, mss, ""))
	s.put("ingress", frame(backend, client, syn|ack, 5000, 2, mss, ""))
	c.out.WriteString(http2.ClientPreface)
	must(c.framer.WriteSettings())
	must(b.framer.WriteSettings())
	for stream := uint32(1); ; stream += 2 {
		request(c, stream)
		response(b, stream)
		fromClient, fromBackend := seq, acked
		asked, answered := sent(c, &seq, &acked), sent(b, &acked, &seq)
		steps := []step{
			{"egress", frame(client, backend, psh|ack, fromClient, fromBackend, nil, asked), uint32(len(asked)), uint32(len(answered)), nil},
			{"ingress", frame(backend, client, psh|ack, fromBackend, seq, nil, answered), uint32(len(answered)), uint32(len(asked)), nil},
		}
		if stream == 1 {
			for _, st := range steps {
				s.put(st.program, st.frame)
			}
			continue
		}
		for i, payload := range []string{asked, answered} {
			steps[i].streams = streamsAt(payload, len(steps[i].frame)-len(payload), stream)
		}
		return steps
	}
}

// streamsAt returns the offsets of a stream's id in a frame whose payload begins at an offset.
func streamsAt(payload string, at int, stream uint32) []int {
	var all []int
	const header = 9
	for len(payload) >= header {
		length := int(payload[0])<<16 | int(payload[1])<<8 | int(payload[2])
		if binary.BigEndian.Uint32([]byte(payload[5:header])) == stream {
			all = append(all, at+5)
		}
		payload, at = payload[header+length:], at+header+length
	}
	return all
}
