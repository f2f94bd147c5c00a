package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"
)

// Frames of HTTP/2.
const (
	frameHeader = 9
	maxPayload  = 16 << 10 // of a frame, as nobody here asks for more
	allStreams  = 0        // the stream id of a connection's own frames
)

// message is a gRPC message of two bytes with its prefix.
var message = []byte("\x00\x00\x00\x00\x02\x08\x01")

// frameOf is a frame that was read.
type frameOf struct {
	kind    http2.FrameType
	flags   http2.Flags
	stream  uint32
	payload []byte
}

// cutFrame cuts the first frame off b; ok is false if b does not have all of it.
func cutFrame(b []byte) (f frameOf, rest []byte, ok bool) {
	if len(b) < frameHeader {
		return frameOf{}, b, false
	}
	end := frameHeader + (int(b[0])<<16 | int(b[1])<<8 | int(b[2]))
	if len(b) < end {
		return frameOf{}, b, false
	}
	return frameOf{
		http2.FrameType(b[3]), http2.Flags(b[4]), binary.BigEndian.Uint32(b[5:]) &^ (1 << 31), b[frameHeader:end],
	}, b[end:], true
}

// ends reports whether the frame is the last of its stream.
func (f frameOf) ends() bool {
	return (f.kind == http2.FrameHeaders || f.kind == http2.FrameData) && f.flags.Has(http2.FlagDataEndStream)
}

// script writes the same call, or the same reply, on one stream of a connection after the other. The first two are encoded: the
// first fills the header table of the peer, the second and all later ones refer to it.
type script struct {
	write   func(*script, uint32) error
	encoded int
	out     bytes.Buffer
	block   bytes.Buffer
	framer  *http2.Framer
	encoder *hpack.Encoder
	streams []int // offsets of the stream ids in out
}

func newScript(write func(*script, uint32) error) *script {
	s := &script{write: write}
	s.framer, s.encoder = http2.NewFramer(&s.out, nil), hpack.NewEncoder(&s.block)
	return s
}

// limit obeys a peer whose header table is smaller than usual.
func (s *script) limit(bytes uint32) {
	s.encoder.SetMaxDynamicTableSizeLimit(bytes)
	s.encoded = 0
}

// next returns the frames for a stream, valid until the next call.
func (s *script) next(stream uint32) ([]byte, error) {
	if s.encoded < 2 {
		s.encoded++
		s.out.Reset()
		if err := s.write(s, stream); err != nil {
			return nil, err
		}
		s.streams = s.streams[:0]
		for at, rest := 0, s.out.Bytes(); len(rest) > 0; at = s.out.Len() - len(rest) {
			s.streams = append(s.streams, at+5)
			_, rest, _ = cutFrame(rest)
		}
	}
	b := s.out.Bytes()
	for _, at := range s.streams {
		binary.BigEndian.PutUint32(b[at:], stream)
	}
	return b, nil
}

// headers writes a HEADERS frame of name, value, name, value.
func (s *script) headers(stream uint32, end bool, list ...string) error {
	s.block.Reset()
	for i := 0; i < len(list); i += 2 {
		if err := s.encoder.WriteField(hpack.HeaderField{Name: list[i], Value: list[i+1]}); err != nil {
			return err
		}
	}
	return s.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: s.block.Bytes(), EndStream: end, EndHeaders: true,
	})
}

// call is a unary call with a message of two bytes.
func (l Load) call(s *script, stream uint32) error {
	if err := s.headers(stream, false, ":method", "POST", ":scheme", "http", ":path", "/bench.Bench/Call", ":authority",
		l.Target.String(), "content-type", "application/grpc", "user-agent", "cbagent-bench", "te", "trailers"); err != nil {
		return err
	}
	return s.framer.WriteData(stream, true, message)
}

// reply is the answer of a server: a message of two bytes and status 0.
func reply(s *script, stream uint32) error {
	if err := s.headers(stream, false, ":status", "200", "content-type", "application/grpc"); err != nil {
		return err
	}
	if err := s.framer.WriteData(stream, false, message); err != nil {
		return err
	}
	return s.headers(stream, true, "grpc-status", "0")
}

// greeting are SETTINGS, and a window of the connection that suffices for 300 million messages.
func greeting() []byte {
	var b bytes.Buffer
	f := http2.NewFramer(&b, nil)
	if err := f.WriteSettings(); err != nil {
		panic(err) // a buffer takes everything
	}
	if err := f.WriteWindowUpdate(allStreams, 1<<31-1-65535); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// house answers a frame that belongs to the connection: SETTINGS and PING are acknowledged. b is what to send, nil if nothing.
func (s *script) house(f frameOf) (b []byte) {
	if f.flags.Has(http2.FlagSettingsAck) {
		return nil
	}
	switch f.kind {
	case http2.FrameSettings:
		for p := f.payload; len(p) >= 6; p = p[6:] {
			if n := binary.BigEndian.Uint32(p[2:]); http2.SettingID(binary.BigEndian.Uint16(p)) == http2.SettingHeaderTableSize && n < 4096 {
				s.limit(n)
			}
		}
		return []byte{0, 0, 0, byte(http2.FrameSettings), byte(http2.FlagSettingsAck), 0, 0, 0, 0}
	case http2.FramePing:
		return append([]byte{0, 0, 8, byte(http2.FramePing), byte(http2.FlagPingAck), 0, 0, 0, 0}, f.payload...)
	}
	return nil
}

// caller is the client's side of one connection.
type caller struct {
	calls   *script
	decoder *hpack.Decoder
	status  int    // grpc-status of the current call, -1 before it came
	stream  uint32 // of the current call
	window  int    // bytes that the server takes
	have    int    // bytes in the client's buffer
	ended   bool   // the current call was answered
	last    bool   // the server takes no more calls on this connection
	broken  error  // what it sent is not understood
}

func (l Load) newCaller() *caller {
	c := &caller{calls: newScript(l.call), window: 65535}
	c.decoder = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == "grpc-status" {
			if c.status, c.broken = strconv.Atoi(f.Value); c.broken != nil {
				c.status = -1
			}
		}
	})
	return c
}

// call makes a call on the connection and returns its grpc-status.
func (c *client) call() (int, error) {
	h := c.caller
	if h == nil {
		h = c.load.newCaller()
		c.caller = h
		if _, err := unix.Write(c.fd, append([]byte(http2.ClientPreface), greeting()...)); err != nil {
			return 0, err
		}
		h.stream = 1
	} else {
		h.stream += 2
	}
	frames, err := h.calls.next(h.stream)
	if err != nil {
		c.broken = err
		return 0, err
	}
	if _, err := unix.Write(c.fd, frames); err != nil {
		return 0, err
	}
	h.window -= len(message)
	h.status, h.ended = -1, false
	for {
		n, err := unix.Read(c.fd, c.buffer[h.have:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, err
		}
		if n == 0 {
			return 0, unix.ENODATA // closed before the whole answer
		}
		rest := c.buffer[:h.have+n]
		for {
			f, after, ok := cutFrame(rest)
			if !ok {
				break
			}
			rest = after
			if err := c.read(f); err != nil {
				return 0, err
			}
		}
		h.have = copy(c.buffer, rest)
		if !h.ended {
			continue
		}
		if h.status < 0 {
			c.broken = fmt.Errorf("the answer to a call has no grpc-status")
			return 0, c.broken
		}
		status := h.status
		if h.last || h.window < len(message) {
			c.hangUp()
		}
		return status, nil
	}
}

// read reads a frame of the server.
func (c *client) read(f frameOf) error {
	h := c.caller
	switch f.kind {
	case http2.FrameHeaders:
		if f.flags&^(http2.FlagHeadersEndStream) != http2.FlagHeadersEndHeaders {
			h.broken = fmt.Errorf("a HEADERS frame has flags %#x", f.flags)
		} else if _, err := h.decoder.Write(f.payload); err != nil {
			h.broken = err
		} else if err := h.decoder.Close(); err != nil {
			h.broken = err
		}
		if h.broken != nil {
			c.broken = h.broken
			return h.broken
		}
	case http2.FrameRSTStream:
		// A server that has answered may say so that it reads no more of the call.
		if f.stream == h.stream && !h.ended {
			return fmt.Errorf("RST_STREAM: %s", http2.ErrCode(binary.BigEndian.Uint32(f.payload)))
		}
	case http2.FrameGoAway:
		h.last = true
	case http2.FrameWindowUpdate:
		if f.stream == allStreams {
			h.window += int(binary.BigEndian.Uint32(f.payload))
		}
	case http2.FrameSettings, http2.FramePing:
		if b := h.calls.house(f); b != nil {
			if _, err := unix.Write(c.fd, b); err != nil {
				return err
			}
		}
	}
	if f.stream == h.stream && f.ends() {
		h.ended = true
	}
	return nil
}

// callee is the server's side of one connection.
type callee struct {
	replies *script
	partial []byte // what came and is not a whole frame
	began   bool   // the preface was read
}

// serveCalls answers the calls that have arrived on a connection; false when the connection is to be closed.
func (s *Server) serveCalls(fd int) bool {
	c := s.callees[fd]
	if c == nil {
		c = &callee{replies: newScript(reply)}
		s.callees[fd] = c
	}
	have := copy(s.buffer, c.partial)
	n, err := unix.Read(fd, s.buffer[have:])
	if err == unix.EINTR || err == unix.EAGAIN {
		return true
	}
	if err != nil || n == 0 {
		return false
	}
	rest := s.buffer[:have+n]
	s.out = s.out[:0]
	if !c.began && len(rest) >= len(http2.ClientPreface) {
		if !bytes.HasPrefix(rest, []byte(http2.ClientPreface)) {
			return false
		}
		c.began = true
		rest = rest[len(http2.ClientPreface):]
		s.out = append(s.out, greeting()...)
	}
	for c.began {
		f, after, ok := cutFrame(rest)
		if !ok {
			break
		}
		rest = after
		if f.ends() {
			b, err := c.replies.next(f.stream)
			if err != nil {
				return false
			}
			s.out = append(s.out, b...)
		} else if f.kind == http2.FrameSettings || f.kind == http2.FramePing {
			s.out = append(s.out, c.replies.house(f)...)
		}
	}
	c.partial = append(c.partial[:0], rest...)
	if len(s.out) == 0 {
		return true
	}
	n, err = unix.Write(fd, s.out)
	return err == nil && n == len(s.out)
}
