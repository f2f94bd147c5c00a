package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/testserver"
	"github.com/cbagent/cbagent/internal/tables"
)

// deed is what becomes of a call. The path of a request names it, and a number that the deed may need.
type deed string

const (
	deedStatus       deed = "status"     // an HTTP response, with a body if the number is even
	deedBody         deed = "body"       // an HTTP response with a body of that length and trailers
	deedInterim      deed = "interim"    // a 103, then that status
	deedCode         deed = "code"       // a gRPC code in trailers
	deedTrailersOnly deed = "only"       // a gRPC code alone
	deedStream       deed = "stream"     // as many messages, then trailers
	deedNoTrailers   deed = "notrailers" // a gRPC response that ends without trailers
	deedReset        deed = "reset"      // RST_STREAM with that error code
	deedResetLate    deed = "resetlate"  // gRPC response headers, then RST_STREAM
	deedCancel       deed = "cancel"     // the client cancels at once
	deedCancelLate   deed = "cancellate" // the client cancels after gRPC response headers
	deedHang         deed = "hang"       // nothing, until the connection or the client's time ends
	deedClose        deed = "close"      // the server closes the connection
	deedAbort        deed = "abort"      // the server resets the connection
	deedGoAway       deed = "goaway"     // the server processes no stream above the oldest one, and then closes
	deedLeave        deed = "leave"      // the client closes the connection
	grpcContent           = "application/grpc"
	bigWindow             = 1<<31 - 1
	uploadLen             = 3000
)

// outcomeCounts counts the outcomes of a server's calls.
type outcomeCounts [breaker.MaxResult + 1]atomic.Uint64

// streamServer is a server of HTTP/2 in clear text that does to each call what its path says, and counts that.
type streamServer struct {
	listener net.Listener
	early    atomic.Bool // it sends its settings before it reads the preface
	pieces   atomic.Bool // it writes a byte at a time
	calls    atomic.Uint64
	outcomes outcomeCounts
	loops    sync.WaitGroup
	mu       sync.Mutex // of open
	open     map[net.Conn]bool
}

func serveStreams(t *testing.T, in *netlab.Namespace, at netip.AddrPort) *streamServer {
	t.Helper()
	l, err := in.Listen(at)
	if err != nil {
		t.Fatal(err)
	}
	s := &streamServer{listener: l, open: map[net.Conn]bool{}}
	s.loops.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.open[c] = true
			s.mu.Unlock()
			s.loops.Go(func() {
				s.serve(c)
				_ = c.Close() // the client may have gone
				s.mu.Lock()
				delete(s.open, c)
				s.mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		for c := range s.open {
			_ = c.Close() // its loop ends
		}
		s.mu.Unlock()
		s.loops.Wait()
	})
	return s
}

// add counts an outcome.
func (s *streamServer) add(r breaker.Result) { s.outcomes[r].Add(1) }

// end is one end of a connection.
type end struct {
	net.Conn
	in      *bufio.Reader
	out     *bufio.Writer
	framer  *http2.Framer
	decoder *hpack.Decoder
	encoder *hpack.Encoder
	block   bytes.Buffer
	random  *rand.Rand // of whoever writes
}

// byteWriter writes a byte at a time.
type byteWriter struct{ io.Writer }

func (w byteWriter) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := w.Writer.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

func newEnd(c net.Conn, pieces bool, seed uint64) *end {
	e := &end{Conn: c, in: bufio.NewReaderSize(c, 16<<10), random: rand.New(rand.NewPCG(seed, 1))}
	e.out = bufio.NewWriterSize(c, 16<<10)
	if pieces {
		e.out = bufio.NewWriterSize(byteWriter{c}, 16<<10)
	}
	e.framer = http2.NewFramer(e.out, e.in)
	e.framer.SetReuseFrames()
	e.encoder = hpack.NewEncoder(&e.block)
	e.decoder = hpack.NewDecoder(4096, nil)
	return e
}

// headers writes a list of name, value, name, value in a HEADERS frame, at times with padding, priority and CONTINUATION
// frames. A field that differs each time makes the table of header fields forget older ones.
func (e *end) headers(stream uint32, last bool, list ...string) error {
	e.block.Reset()
	list = append(list, "x-request-id", strconv.FormatUint(e.random.Uint64(), 36))
	for i := 0; i < len(list); i += 2 {
		if err := e.encoder.WriteField(hpack.HeaderField{Name: list[i], Value: list[i+1]}); err != nil {
			return err
		}
	}
	p := http2.HeadersFrameParam{StreamID: stream, BlockFragment: e.block.Bytes(), EndStream: last, EndHeaders: true}
	switch e.random.IntN(8) {
	case 0:
		p.PadLength = uint8(e.random.IntN(256))
	case 1:
		p.Priority = http2.PriorityParam{StreamDep: stream + 1, Weight: 7}
	case 2:
		cut := e.random.IntN(len(p.BlockFragment))
		p.BlockFragment, p.EndHeaders = e.block.Bytes()[:cut], false
		if err := e.framer.WriteHeaders(p); err != nil {
			return err
		}
		return e.framer.WriteContinuation(stream, true, e.block.Bytes()[cut:])
	}
	return e.framer.WriteHeaders(p)
}

// message is a gRPC message.
var message = append([]byte{0, 0, 0, 0, 40}, testserver.FakeTraffic(40)...)

func (e *end) data(stream uint32, last bool, body []byte) error {
	if e.random.IntN(8) == 0 {
		return e.framer.WriteDataPadded(stream, last, body, make([]byte, e.random.IntN(256)))
	}
	return e.framer.WriteData(stream, last, body)
}

// begin writes the settings with which each side begins.
func (e *end) begin() error {
	return errors.Join(
		e.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: bigWindow}),
		e.framer.WriteWindowUpdate(0, bigWindow-65535), e.out.Flush(),
	)
}

// serve serves one connection.
func (s *streamServer) serve(c net.Conn) {
	e := newEnd(c, s.pieces.Load(), s.calls.Load())
	preface := make([]byte, len(http2.ClientPreface))
	if s.early.Load() && e.begin() != nil {
		return
	}
	if _, err := io.ReadFull(c, preface); err != nil || string(preface) != http2.ClientPreface {
		return
	}
	if !s.early.Load() && e.begin() != nil {
		return
	}
	d := &serving{streamServer: s, end: e, open: map[uint32]task{}}
	if err := d.run(); err != nil {
		for range d.open {
			s.add(breaker.ResultAborted)
		}
	}
}

// task is a deed with its number.
type task struct {
	deed   deed
	number int
}

// serving is a connection of a server.
type serving struct {
	*streamServer
	*end
	open map[uint32]task // streams without an outcome
	last uint32
}

// errServed ends a connection that the server has left.
var errServed = errors.New("the server has left")

// run reads frames until one side leaves. The error is nil if this side has left.
func (d *serving) run() error {
	var block []byte
	for {
		f, err := d.framer.ReadFrame()
		if err != nil {
			return err
		}
		switch f := f.(type) {
		case *http2.HeadersFrame:
			block = append(block[:0], f.HeaderBlockFragment()...)
			if f.HeadersEnded() {
				err = d.request(f.StreamID, f.StreamEnded(), block)
			} else {
				err = d.continued(f.StreamID, f.StreamEnded(), block)
			}
		case *http2.DataFrame:
			if f.StreamEnded() {
				err = d.respond(f.StreamID)
			}
		case *http2.RSTStreamFrame:
			if _, ok := d.open[f.StreamID]; ok {
				d.ends(f.StreamID, breaker.ResultAborted)
			}
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = d.framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			err = d.framer.WritePing(true, f.Data)
		}
		if errors.Is(err, errServed) {
			return nil
		}
		if err == nil && d.in.Buffered() == 0 {
			err = d.out.Flush()
		}
		if err != nil {
			return err
		}
	}
}

// continued reads the rest of a header block.
func (d *serving) continued(stream uint32, ended bool, block []byte) error {
	for {
		f, err := d.framer.ReadFrame()
		if err != nil {
			return err
		}
		c, ok := f.(*http2.ContinuationFrame)
		if !ok {
			return fmt.Errorf("%v within a header block", f)
		}
		block = append(block, c.HeaderBlockFragment()...)
		if c.HeadersEnded() {
			return d.request(stream, ended, block)
		}
	}
}

func (d *serving) ends(stream uint32, r breaker.Result) {
	delete(d.open, stream)
	d.add(r)
}

// request begins a stream, or ends it with the trailers of its request.
func (d *serving) request(stream uint32, ended bool, block []byte) error {
	fields, err := d.decoder.DecodeFull(block)
	if err != nil {
		return err
	}
	if stream > d.last {
		d.last = stream
		d.calls.Add(1)
		for _, f := range fields {
			if f.Name != ":path" {
				continue
			}
			var c task
			if _, err := fmt.Sscanf(f.Value, "/%d/%s", &c.number, &c.deed); err != nil {
				return fmt.Errorf("path %s: %w", f.Value, err)
			}
			d.open[stream] = c
		}
	}
	if !ended {
		return nil
	}
	return d.respond(stream)
}

// respond does to a call whose request has ended what it is there for.
func (d *serving) respond(stream uint32) error {
	c, ok := d.open[stream]
	if !ok {
		return nil // the client has cancelled it
	}
	grpc := func() error { return d.headers(stream, false, ":status", "200", "content-type", grpcContent) }
	trailers := func(code int) error {
		d.ends(stream, breaker.ResultGRPC(code))
		return d.headers(stream, true, "grpc-status", strconv.Itoa(code), "grpc-message", "it is so")
	}
	status := strconv.Itoa(c.number)
	switch c.deed {
	case deedStatus:
		d.ends(stream, breaker.Result(c.number))
		if c.number%2 == 1 {
			return d.headers(stream, true, ":status", status)
		}
		return errors.Join(d.headers(stream, false, ":status", status, "content-type", "text/plain"), d.data(stream, true, message))
	case deedBody:
		d.ends(stream, 200)
		return errors.Join(d.headers(stream, false, ":status", "200", "content-type", "text/plain"),
			d.data(stream, false, testserver.FakeTraffic(c.number)), d.headers(stream, true, "checksum", "77"))
	case deedInterim:
		d.ends(stream, breaker.Result(c.number))
		return errors.Join(d.headers(stream, false, ":status", "103"), d.headers(stream, true, ":status", status))
	case deedCode:
		return errors.Join(grpc(), d.data(stream, false, message), trailers(c.number))
	case deedTrailersOnly:
		d.ends(stream, breaker.ResultGRPC(c.number))
		return d.headers(stream, true, ":status", "200", "content-type", grpcContent, "grpc-status", status)
	case deedStream:
		err := grpc()
		for range c.number {
			err = errors.Join(err, d.data(stream, false, message))
		}
		return errors.Join(err, trailers(0))
	case deedNoTrailers:
		d.ends(stream, breaker.ResultUnknown)
		return errors.Join(grpc(), d.data(stream, true, message))
	case deedReset, deedResetLate:
		result := breaker.ResultH2Reset
		if http2.ErrCode(c.number) == http2.ErrCodeRefusedStream {
			result = breaker.ResultH2Refused
		}
		d.ends(stream, result)
		var err error
		if c.deed == deedResetLate {
			err = grpc()
		}
		return errors.Join(err, d.framer.WriteRSTStream(stream, http2.ErrCode(c.number)))
	case deedCancelLate:
		return grpc()
	case deedClose, deedAbort:
		for range d.open {
			d.add(breaker.ResultReset)
		}
		if c.deed == deedAbort {
			if err := d.Conn.(*net.TCPConn).SetLinger(0); err != nil {
				return err
			}
		}
		return errServed
	case deedGoAway:
		oldest := stream
		for other := range d.open {
			oldest = min(oldest, other)
		}
		for other := range d.open {
			if other > oldest {
				d.ends(other, breaker.ResultRaced)
			} else {
				d.ends(other, breaker.ResultReset)
			}
		}
		if err := errors.Join(d.framer.WriteGoAway(oldest, http2.ErrCodeNo, nil), d.out.Flush()); err != nil {
			return err
		}
		return errServed
	}
	return nil // deedCancel, deedHang, deedLeave
}

// streamClient sends calls on one connection.
type streamClient struct {
	*end
	mu   sync.Mutex // of what is written, and of the fields below
	left map[uint32]deed
	free chan struct{} // a place for each stream that may be open
	next uint32
	pong chan struct{}
	done chan error // the error with which the connection ended
}

func dialStreams(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error), at netip.AddrPort, streams int,
	pieces bool, seed uint64,
) (*streamClient, error) {
	conn, err := dial(ctx, "tcp", at.String())
	if err != nil {
		return nil, err
	}
	c := &streamClient{
		end: newEnd(conn, pieces, seed), left: map[uint32]deed{}, free: make(chan struct{}, streams), next: 1, done: make(chan error, 1),
		pong: make(chan struct{}, 1),
	}
	if _, err := c.out.WriteString(http2.ClientPreface); err != nil {
		return nil, err
	}
	if err := c.begin(); err != nil {
		return nil, err
	}
	go func() { c.done <- c.read() }()
	return c, nil
}

// flush sends what was written.
func (c *streamClient) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Flush()
}

// take takes a place for a stream. What was written is sent before it waits.
func (c *streamClient) take() error {
	select {
	case c.free <- struct{}{}:
		return nil
	default:
	}
	if err := c.flush(); err != nil {
		return err
	}
	select {
	case c.free <- struct{}{}:
		return nil
	case err := <-c.done:
		c.done <- err
		return fmt.Errorf("the connection has ended: %w", err)
	}
}

// do begins a call when a stream is free. At times it is sent together with later ones.
func (c *streamClient) do(number int, what deed) error {
	if err := c.take(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	stream := c.next
	c.next += 2
	c.left[stream] = what
	path := fmt.Sprintf("/%d/%s", number, what)
	var err error
	if c.random.IntN(3) == 0 {
		err = errors.Join(c.headers(stream, false, ":method", "POST", ":scheme", "http", ":path", path, ":authority", "streams"),
			c.data(stream, false, testserver.FakeTraffic(uploadLen)), c.headers(stream, true, "checksum", "77"))
	} else {
		err = c.headers(stream, true, ":method", "GET", ":scheme", "http", ":path", path, ":authority", "streams")
	}
	if what == deedCancel {
		err = errors.Join(err, c.cancel(stream))
	}
	if err != nil || c.random.IntN(4) > 0 {
		return err
	}
	return c.out.Flush()
}

// cancel resets a stream. c.mu is held.
func (c *streamClient) cancel(stream uint32) error {
	c.ended(stream)
	return c.framer.WriteRSTStream(stream, http2.ErrCodeCancel)
}

// ended frees a stream. c.mu is held.
func (c *streamClient) ended(stream uint32) {
	if _, ok := c.left[stream]; ok {
		delete(c.left, stream)
		<-c.free
	}
}

// read reads frames until the connection ends.
func (c *streamClient) read() error {
	for {
		f, err := c.framer.ReadFrame()
		if err != nil {
			return err
		}
		c.mu.Lock()
		switch f := f.(type) {
		case *http2.HeadersFrame:
			if c.left[f.StreamID] == deedCancelLate {
				err = errors.Join(c.cancel(f.StreamID), c.out.Flush())
			}
			if f.StreamEnded() {
				c.ended(f.StreamID)
			}
		case *http2.DataFrame:
			if f.StreamEnded() {
				c.ended(f.StreamID)
			}
		case *http2.RSTStreamFrame:
			c.ended(f.StreamID)
		case *http2.PingFrame:
			c.pong <- struct{}{}
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = errors.Join(c.framer.WriteSettingsAck(), c.out.Flush())
			}
		}
		c.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// drain waits until no stream is open.
func (c *streamClient) drain() error {
	for range cap(c.free) {
		if err := c.take(); err != nil {
			return err
		}
	}
	for range cap(c.free) {
		<-c.free
	}
	return nil
}

// close closes the connection when the server has read all that was sent.
func (c *streamClient) close() error {
	c.mu.Lock()
	err := errors.Join(c.framer.WritePing(false, [8]byte{}), c.out.Flush())
	c.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case <-c.pong:
	case err := <-c.done:
		c.done <- err
		return fmt.Errorf("the connection has ended: %w", err)
	}
	err = c.Conn.Close()
	<-c.done
	return err
}

// awaitEnd waits until the server has ended the connection.
func (c *streamClient) awaitEnd() error {
	<-c.done
	return c.Conn.Close()
}

// ordinary are deeds that leave the connection open, each with its number.
var ordinary = []task{
	{deedStatus, 200}, {deedStatus, 200}, {deedStatus, 201}, {deedStatus, 404}, {deedStatus, 503}, {deedStatus, 500}, {deedStatus, 599},
	{deedBody, 2000}, {deedInterim, 200}, {deedInterim, 502}, {deedNoTrailers, 0}, {deedStream, 20}, {deedStream, 3},
	{deedCode, 0}, {deedCode, 0}, {deedCode, 0}, {deedCode, 2}, {deedCode, 5}, {deedCode, 14}, {deedCode, 13}, {deedCode, 16},
	{deedTrailersOnly, 14}, {deedTrailersOnly, 4}, {deedTrailersOnly, 7}, {deedTrailersOnly, 12},
	{deedReset, int(http2.ErrCodeRefusedStream)}, {deedReset, int(http2.ErrCodeInternal)}, {deedResetLate, int(http2.ErrCodeCancel)},
	{deedCancel, 0}, {deedCancel, 0}, {deedCancelLate, 0},
}

// endings are the last calls of a connection, in this order: the server or the client ends it.
var endings = [][]task{
	{}, // the client closes when all have ended
	{{deedHang, 0}, {deedHang, 0}, {deedClose, 0}},
	{{deedHang, 0}, {deedAbort, 0}},
	{{deedHang, 0}, {deedHang, 0}, {deedLeave, 0}},
	{{deedHang, 0}, {deedHang, 0}, {deedGoAway, 0}},
}

// load is what clients do.
type streamLoad struct {
	dial        func(context.Context, string, string) (net.Conn, error)
	target      netip.AddrPort
	connections int
	calls       int // of a connection
	streams     int // at once on a connection
	endings     [][]task
	pieces      bool
}

// run opens the connections, a few at once, and returns when all have ended.
func (l streamLoad) run(t *testing.T) {
	t.Helper()
	var workers sync.WaitGroup
	next := make(chan int, l.connections)
	for i := range l.connections {
		next <- i
	}
	close(next)
	for range min(l.connections, 8) {
		workers.Go(func() {
			for i := range next {
				if err := l.connection(t.Context(), i); err != nil {
					t.Errorf("connection %d to %s: %v", i, l.target, err)
				}
			}
		})
	}
	workers.Wait()
}

func (l streamLoad) connection(ctx context.Context, number int) error {
	c, err := dialStreams(ctx, l.dial, l.target, l.streams, l.pieces, uint64(number))
	if err != nil {
		return err
	}
	for i := range l.calls {
		next := ordinary[(i+number)%len(ordinary)]
		if err := c.do(next.number, next.deed); err != nil {
			return err
		}
	}
	if err := c.drain(); err != nil {
		return err
	}
	last := l.endings[number%len(l.endings)]
	for _, next := range last {
		if err := c.do(next.number, next.deed); err != nil {
			return err
		}
	}
	if err := c.flush(); err != nil {
		return err
	}
	if len(last) == 0 || last[len(last)-1].deed == deedLeave {
		return c.close()
	}
	return c.awaitEnd()
}

// wants returns the outcomes that a server has counted, by class.
func (s *streamServer) wants() map[string]uint64 {
	want := map[string]uint64{}
	for r := range s.outcomes {
		if n := s.outcomes[r].Load(); n > 0 {
			want[tables.OutcomeName(tables.OutcomeClass(breaker.Result(r)))] += n
		}
	}
	return want
}
