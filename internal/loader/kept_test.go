package loader

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/cbagent/cbagent/internal/answer"
	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// http2Answers gives settings the answers of the rig, for a policy that the rig does not write itself.
func (r *rig) http2Answers(s tables.PolicySettings) tables.PolicySettings {
	for i := range answer.Reasons() {
		s.HTTP2Answers[i], s.GRPCAnswers[i] = http2Answers+i, grpcAnswers+i
	}
	return s
}

// reader reads what a client gets on an HTTP/2 connection.
type reader struct {
	t       testing.TB
	buf     bytes.Buffer
	framer  *http2.Framer
	decoder *hpack.Decoder
}

func newReader(t testing.TB) *reader {
	r := &reader{t: t, decoder: hpack.NewDecoder(4096, nil)}
	r.framer = http2.NewFramer(io.Discard, &r.buf)
	return r
}

// read returns the frames in b, in words.
func (r *reader) read(b []byte) []string {
	r.t.Helper()
	r.buf.Write(b)
	var all []string
	for r.buf.Len() > 0 {
		f, err := r.framer.ReadFrame()
		if err != nil {
			r.t.Fatalf("after %q: %v", all, err)
		}
		all = append(all, r.describe(f))
	}
	return all
}

func (r *reader) describe(f http2.Frame) string {
	end := ""
	if f.Header().Flags.Has(http2.FlagDataEndStream) {
		end = " END"
	}
	id := f.Header().StreamID
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return "SETTINGS ACK"
		}
		s := "SETTINGS"
		if err := f.ForeachSetting(func(v http2.Setting) error { s += " " + v.String(); return nil }); err != nil {
			r.t.Fatal(err)
		}
		return s
	case *http2.WindowUpdateFrame:
		return fmt.Sprintf("WINDOW_UPDATE %d %d", id, f.Increment)
	case *http2.PingFrame:
		return fmt.Sprintf("PING %t %s", f.IsAck(), f.Data)
	case *http2.GoAwayFrame:
		return fmt.Sprintf("GOAWAY %d %s", f.LastStreamID, f.ErrCode)
	case *http2.DataFrame:
		return fmt.Sprintf("DATA %d %s%s", id, f.Data(), end)
	case *http2.HeadersFrame:
		fields, err := r.decoder.DecodeFull(f.HeaderBlockFragment())
		if err != nil || !f.HeadersEnded() {
			r.t.Fatalf("stream %d: %v", id, err)
		}
		s := fmt.Sprintf("HEADERS %d", id)
		for _, h := range fields {
			s += " " + h.Name + "=" + h.Value
			// A slow run may take some seconds of a minute.
			if n, err := strconv.Atoi(h.Value); h.Name == "retry-after" && err == nil && n < 60 && n > 50 {
				s = strings.TrimSuffix(s, h.Value) + fmt.Sprintf("%0*d", len(h.Value), 60)
			}
		}
		return s + end
	}
	r.t.Fatalf("unexpected frame %s", f)
	return ""
}

var greeting = []string{"SETTINGS [INITIAL_WINDOW_SIZE = 2147483647]", "WINDOW_UPDATE 0 2147418112"}

// full, headOnly and trailers are the answers to a stream.
func full(stream uint32, reason string, retry int) []string {
	return []string{
		fmt.Sprintf("HEADERS %d :status=503 server=cbagent content-type=text/plain content-length=%d retry-after=%0*d x-cbagent-reason=%s",
			stream, len("not now: "+reason), retryWidth(reason), retry, reason),
		fmt.Sprintf("DATA %d not now: %s END", stream, reason),
	}
}

func headOnly(stream uint32, reason string, retry int) []string {
	return []string{full(stream, reason, retry)[0] + " END"}
}

func trailers(stream uint32, reason string) []string {
	code := 14
	if reason == answer.ReasonRateLimit {
		code = 8
	}
	return []string{fmt.Sprintf("HEADERS %d :status=200 content-type=application/grpc grpc-status=%d grpc-message=not now: %s x-cbagent-reason=%s END",
		stream, code, reason, reason)}
}

// retryWidth is the number of digits of Retry-After: the renderer aligns eight of them.
func retryWidth(reason string) int {
	a := answer.RenderHTTP2(answer.Spec{Status: 503, ContentType: "text/plain", Body: "not now: " + reason}, reason, true)
	n := 0
	for n < 9 && a.Bytes[a.RetryAt+answer.RetryFieldLen-1-n] == '0' {
		n++
	}
	return n
}

// kept is a client on an HTTP/2 connection that the kernel answers.
type kept struct {
	*conn
	t      testing.TB
	client *peer
	reader *reader
}

// open begins a connection whose SYN is answered.
func (c *conn) keep(t testing.TB, reason string) *kept {
	t.Helper()
	c.r.t = t
	c.answeredSYN(reason)
	return &kept{conn: c, t: t, client: newPeer(), reader: newReader(t)}
}

// preface returns what a client sends first.
func (k *kept) preface() string {
	must(k.client.framer.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0}))
	return http2.ClientPreface + k.client.take()
}

// asks sends data, and checks what the client gets: frames in so many segments, the last with these flags.
func (k *kept) asks(data string, count string, flags uint8, segments int, frames ...string) {
	k.t.Helper()
	k.gets(k.send(psh|ack, data), count, flags, k.seq, segments, frames...)
}

// gets checks a reply. The client has then received it.
func (k *kept) gets(res result, count string, flags uint8, acked uint32, segments int, frames ...string) {
	k.t.Helper()
	k.did(res, k.answers, k.hookOut+" "+count)
	if len(res.sent)+1 != segments {
		k.t.Errorf("%d segments, expected %d", len(res.sent)+1, segments)
	}
	var got []string
	for i, s := range append(res.sent, res.segment) {
		want := uint8(psh | ackFlag)
		if i+1 == segments {
			want = flags
		}
		k.is(s, want, k.ack, acked, nil)
		if len(s.payload) > 1200 || !k.l3 && s.srcMAC != nodeMAC {
			k.t.Errorf("a segment has %d bytes, from %x", len(s.payload), s.srcMAC)
		}
		k.ack += uint32(len(s.payload))
		got = append(got, k.reader.read(s.payload)...)
	}
	if flags&fin != 0 {
		k.ack++
	}
	if strings.Join(got, "\n") != strings.Join(frames, "\n") {
		k.t.Errorf("frames\n%s\nexpected\n%s", strings.Join(got, "\n"), strings.Join(frames, "\n"))
	}
}

func list(lists ...[]string) (all []string) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// keptWherever runs a case everywhere, with a circuit that is open for a minute from now on.
func keptWherever(t *testing.T, test func(t *testing.T, c *conn)) {
	t.Helper()
	s := newRig(t).http2Answers(tables.PolicySettings{Reject: tables.Respond, Existing: true})
	wherever(t, s, ledger.Verdict{}, func(t *testing.T, c *conn) {
		c.r.d.SetVerdict(1, openFor(time.Minute))
		test(t, c)
	})
}

func TestKeptConnection(t *testing.T) {
	keptWherever(t, func(t *testing.T, c *conn) {
		k := c.keep(t, "open")
		k.asks(k.preface(), "ack answered", psh|ack, 1, list(greeting, []string{"SETTINGS ACK"})...)
		k.r.wantTotals(want{})
		k.asks(k.client.get(1).take(), "respond open", psh|ack, 1, full(1, "open", 60)...)
		k.asks(k.client.call(3).take(), "respond open", psh|ack, 1, trailers(3, "open")...)
		k.asks(k.client.headers(5, true, ":method", "HEAD", ":path", "/").take(), "respond open", psh|ack, 1, headOnly(5, "open", 60)...)
		k.did(k.send(ack, ""), verdictDrop, k.hookOut+" swallow answered")
		k.asks(k.client.get(7).take(), "respond open", psh|ack, 1, full(7, "open", 60)...)
		k.gets(k.send(fin|ack, ""), "ack answered", fin|ack, k.seq, 1)
		k.did(k.send(ack, ""), verdictDrop, k.hookOut+" swallow answered")
		k.r.wantTotals(want{Rejected: map[string]uint64{"open respond": 4}})
		if n := k.r.d.NodeCounts().Flows; n != 0 {
			t.Errorf("%d connections are followed", n)
		}
	})
}

// Go's client sends all at once.
func TestKeptConnectionThatBeginsWithARequest(t *testing.T) {
	keptWherever(t, func(t *testing.T, c *conn) {
		k := c.keep(t, "open")
		k.asks(k.preface()+k.client.call(1).get(3).take(), "respond open", psh|ack, 1,
			list(greeting, []string{"SETTINGS ACK"}, trailers(1, "open"), full(3, "open", 60))...)
		k.r.wantTotals(want{Rejected: map[string]uint64{"open respond": 2}})
	})
}

func TestFramesBesidesRequests(t *testing.T) {
	keptWherever(t, func(t *testing.T, c *conn) {
		k := c.keep(t, "open")
		k.asks(k.preface(), "ack answered", psh|ack, 1, list(greeting, []string{"SETTINGS ACK"})...)
		p := k.client
		must(p.framer.WriteSettingsAck())
		must(p.framer.WriteWindowUpdate(0, 1<<20))
		must(p.framer.WritePing(true, [8]byte{1}))
		k.asks(p.take(), "ack answered", ack, 1)
		must(p.framer.WritePing(false, [8]byte{'p', 'i', 'n', 'g', 'p', 'o', 'n', 'g'}))
		k.asks(p.take(), "ack answered", psh|ack, 1, "PING true pingpong")
		k.asks(p.headers(1, false, ":method", "POST").data(1, false, "body").take(), "respond open", psh|ack, 1, full(1, "open", 60)...)
		k.asks(p.data(1, false, strings.Repeat("x", 1000)).take(), "ack answered", ack, 1)
		must(p.framer.WriteDataPadded(1, true, []byte("end"), make([]byte, 7)))
		must(p.framer.WriteRSTStream(1, http2.ErrCodeCancel))
		must(p.framer.WritePriority(3, http2.PriorityParam{Weight: 3}))
		must(p.framer.WriteRawFrame(0x42, 0xff, 9, []byte("unknown")))
		must(p.framer.WriteGoAway(0, http2.ErrCodeNo, nil))
		k.asks(p.take(), "ack answered", ack, 1)
		// Trailers are no request.
		k.asks(p.headers(1, true, "x-trailer", "1").take(), "ack answered", ack, 1)
		must(p.framer.WriteHeaders(http2.HeadersFrameParam{
			StreamID: 3, BlockFragment: p.fields(":method", "GET"), EndStream: true, EndHeaders: true, PadLength: 5,
			Priority: http2.PriorityParam{Weight: 9},
		}))
		k.asks(p.take(), "respond open", psh|ack, 1, full(3, "open", 60)...)
		k.r.wantTotals(want{Rejected: map[string]uint64{"open respond": 2}})
	})
}

// atEgress runs a case on egress, over IPv4 and IPv6.
func atEgress(t *testing.T, test func(t *testing.T, c *conn)) {
	t.Helper()
	s := newRig(t).http2Answers(tables.PolicySettings{Reject: tables.Respond, Existing: true})
	at(t, places[:1], s, ledger.Verdict{}, func(t *testing.T, c *conn) {
		c.r.d.SetVerdict(1, openFor(time.Minute))
		test(t, c)
	})
}

// The client's TCP sends the bytes that may be of HTTP/1.x again, together.
func TestHTTP2OneByteAtATime(t *testing.T) {
	atEgress(t, func(t *testing.T, c *conn) {
		k := c.keep(t, "open")
		all := k.preface() + k.client.call(1).headers(3, true, ":method", "HEAD").get(5).take()
		begin := k.seq
		for i := range 4 {
			k.did(k.send(psh|ack, all[i:i+1]), verdictDrop, "egress swallow answered")
		}
		k.seq = begin
		k.asks(all[:4], "ack answered", psh|ack, 1, greeting...)
		var got []string
		for i := 4; i < len(all); i++ {
			res := k.send(psh|ack, all[i:i+1])
			if res.verdict != verdictRedirect || res.segment.ack != k.seq || res.segment.seq != k.ack || len(res.counted) != 1 {
				t.Fatalf("byte %d: verdict %d, %v, %s", i, res.verdict, res.counted, res.segment)
			}
			got = append(got, k.reader.read(res.segment.payload)...)
			k.ack += uint32(len(res.segment.payload))
		}
		want := list([]string{"SETTINGS ACK"}, trailers(1, "open"), headOnly(3, "open", 60), full(5, "open", 60))
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("frames\n%s", strings.Join(got, "\n"))
		}
	})
}

// Each place where a segment may end.
func TestHTTP2CutAnywhere(t *testing.T) {
	r := newRig(t)
	r.put(backendV4, r.http2Answers(tables.PolicySettings{Reject: tables.Respond}), openFor(time.Minute))
	for cut := 4; ; cut++ {
		r.settle()
		r.d.SetVerdict(1, openFor(time.Minute))
		k := r.dial(clientV4, backendV4).keep(t, "open")
		all := k.preface()
		must(k.client.framer.WriteHeaders(http2.HeadersFrameParam{
			StreamID: 1, BlockFragment: k.client.fields(":method", "GET", "x-long", strings.Repeat("long", 20)), EndStream: true, PadLength: 3,
		}))
		must(k.client.framer.WriteContinuation(1, true, k.client.fields("content-type", "application/grpc+proto")))
		must(k.client.framer.WritePing(false, [8]byte{'1', '2', '3', '4', '5', '6', '7', '8'}))
		all += k.client.get(3).take()
		if cut == len(all) {
			return
		}
		var got []string
		for _, part := range []string{all[:cut], all[cut:]} {
			res := k.send(psh|ack, part)
			got = append(got, k.reader.read(res.segment.payload)...)
			k.ack += uint32(len(res.segment.payload))
			if res.segment.ack != k.seq {
				t.Errorf("cut at %d: acknowledged %d, expected %d", cut, res.segment.ack, k.seq)
			}
		}
		want := list(greeting, []string{"SETTINGS ACK"}, trailers(1, "open"), []string{"PING true 12345678"}, full(3, "open", 60))
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Fatalf("cut at %d: frames\n%s", cut, strings.Join(got, "\n"))
		}
	}
}

// What begins like HTTP/2 may be HTTP/1.x.
func TestFirstBytesMayBeOfHTTP2(t *testing.T) {
	keptWherever(t, func(t *testing.T, c *conn) {
		for _, request := range []string{"POST / HTTP/1.1\r\n\r\n", "PROPFIND / HTTP/1.1\r\n\r\n", "PUT / HTTP/1.1\r\n\r\n"} {
			c.client = netipPort(c.client, c.client.Port()+1)
			c.r.t = t
			c.seq = 1000
			c.answeredSYN("open")
			begin := c.seq
			c.did(c.send(psh|ack, request[:1]), verdictDrop, c.hookOut+" swallow answered")
			c.did(c.send(psh|ack, request[1:]), verdictDrop, c.hookOut+" swallow answered")
			c.seq = begin
			if request[1] == 'R' {
				c.did(c.send(psh|ack, request[:2]), verdictDrop, c.hookOut+" swallow answered")
				c.seq = begin
			}
			res := c.send(psh|ack, request)
			c.did(res, c.answers, c.hookOut+" respond open")
			end := c.isAnswer(res.segment, c.ack, c.seq, nil, unavailable, "open", "not now: open")
			c.ack = end
			res = c.send(fin|ack, "")
			c.did(res, c.answers, c.hookOut+" ack answered")
			c.is(res.segment, ack, end, c.seq, nil)
		}
		c.r.wantTotals(want{Rejected: map[string]uint64{"open respond": 3}})
	})
}

func TestFirstBytesOfHTTP2AndFIN(t *testing.T) {
	atEgress(t, func(t *testing.T, c *conn) {
		c.answeredSYN("open")
		res := c.send(fin|psh|ack, "P")
		c.did(res, c.answers, c.hookOut+" respond open")
		c.isAnswer(res.segment, c.ack, c.seq, nil, unavailable, "open", "not now: open")
	})
}

func TestHTTP2AfterAPROXYHeader(t *testing.T) {
	atEgress(t, func(t *testing.T, c *conn) {
		k := c.keep(t, "open")
		k.asks("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"+k.preface()+k.client.get(1).take(), "respond open", psh|ack, 1,
			list(greeting, []string{"SETTINGS ACK"}, full(1, "open", 60))...)
	})
}

// many returns the requests of so many streams, and the answers.
func (k *kept) many(first uint32, n int) (data string, frames []string) {
	for i := range uint32(n) {
		stream := first + 2*i
		if i%3 == 1 {
			k.client.headers(stream, true, ":method", "POST", "content-type", "application/grpc")
			frames = append(frames, trailers(stream, "open")...)
		} else {
			k.client.get(stream)
			frames = append(frames, full(stream, "open", 60)...)
		}
	}
	return k.client.take(), frames
}

func TestManyRequestsInASegment(t *testing.T) {
	keptWherever(t, func(t *testing.T, c *conn) {
		k := c.keep(t, "open")
		k.asks(k.preface(), "ack answered", psh|ack, 1, list(greeting, []string{"SETTINGS ACK"})...)
		data, frames := k.many(1, 51)
		begin := k.seq
		// The client has not all of the answers before it has said so.
		k.gets(k.send(psh|ack, data), "respond open", psh|ack, begin, 5, frames...)
		k.gets(k.send(ack, ""), "ack answered", ack, k.seq, 1)
		k.did(k.send(ack, ""), verdictDrop, k.hookOut+" swallow answered")
		k.r.wantTotals(want{Rejected: map[string]uint64{"open respond": 51}})
	})
}

// What eight segments do not hold is not acknowledged, and is answered when it comes again.
func TestMoreRequestsThanAreAnsweredAtOnce(t *testing.T) {
	atEgress(t, func(t *testing.T, c *conn) {
		k := c.keep(t, "open")
		k.asks(k.preface(), "ack answered", psh|ack, 1, list(greeting, []string{"SETTINGS ACK"})...)
		data, frames := k.many(1, 200)
		all := "" // what the client gets
		for turn := 0; data != ""; turn++ {
			begin := k.seq
			res := k.send(psh|ack, data)
			k.did(res, k.answers, k.hookOut+" respond open")
			if len(res.sent)+1 > 8 || turn > 4 {
				t.Fatalf("turn %d: %d segments", turn, len(res.sent)+1)
			}
			for _, s := range append(res.sent, res.segment) {
				if s.seq != k.ack || s.ack != begin || len(s.payload) > 1200 {
					t.Errorf("turn %d: %s, expected seq %d ack %d", turn, s, k.ack, begin)
				}
				k.ack += uint32(len(s.payload))
				all += string(s.payload)
			}
			res = k.send(ack, "")
			k.did(res, k.answers, k.hookOut+" ack answered")
			k.seq = res.segment.ack
			data = data[k.seq-begin:]
		}
		if got := k.reader.read([]byte(all)); strings.Join(got, "\n") != strings.Join(frames, "\n") {
			t.Errorf("frames\n%s", strings.Join(got, "\n"))
		}
		k.r.wantTotals(want{Rejected: map[string]uint64{"open respond": 200}})
	})
}

// Requests that are under way before the client has any answer: only the first may be acknowledged with its answer.
func TestRequestsWithoutWaiting(t *testing.T) {
	keptWherever(t, func(t *testing.T, c *conn) {
		k := c.keep(t, "open")
		begin := k.seq
		first := k.send(psh|ack, k.preface())
		end := k.seq
		second := k.send(psh|ack, k.client.get(1).take())
		afterSecond := k.seq
		third := k.send(psh|ack, k.client.call(3).take())
		k.gets(first, "ack answered", psh|ack, end, 1, list(greeting, []string{"SETTINGS ACK"})...)
		k.gets(second, "respond open", psh|ack, begin, 1, full(1, "open", 60)...)
		afterReplies := k.ack
		k.gets(third, "respond open", psh|ack, begin, 1, trailers(3, "open")...)
		last := k.ack
		// The client says that it has two of the three, then all.
		k.ack = afterReplies
		res := k.send(ack, "")
		k.did(res, k.answers, k.hookOut+" ack answered")
		k.is(res.segment, ack, last, afterSecond, nil)
		k.did(k.send(ack, ""), verdictDrop, k.hookOut+" swallow answered")
		k.ack = last
		k.gets(k.send(ack, ""), "ack answered", ack, k.seq, 1)
		k.did(k.send(ack, ""), verdictDrop, k.hookOut+" swallow answered")
	})
}

// changed changes the entry of the connection.
func (k *kept) changed(f func(*bpf.CKeptConnection)) {
	k.t.Helper()
	var c bpf.CKeptConnection
	key := flowKey(k.conn.client, k.backend)
	if err := k.r.d.objs.CMaps.Kept.Lookup(key, &c); err != nil {
		k.t.Fatal(err)
	}
	f(&c)
	if err := k.r.d.objs.CMaps.Kept.Put(key, &c); err != nil {
		k.t.Fatal(err)
	}
}

// later moves the connection's latest repetition into the past.
func (k *kept) later() {
	k.t.Helper()
	k.changed(func(c *bpf.CKeptConnection) { c.Repeated = 0 })
}

func TestKeptAnswersAreRepeated(t *testing.T) {
	keptWherever(t, func(t *testing.T, c *conn) {
		k := c.keep(t, "open")
		k.asks(k.preface(), "ack answered", psh|ack, 1, list(greeting, []string{"SETTINGS ACK"})...)
		request := k.segment(psh|ack, k.client.get(1).take())
		first := k.send(psh|ack, string(request.payload))
		k.did(first, k.answers, k.hookOut+" respond open")
		k.r.d.SetVerdict(1, openFor(2*time.Minute)) // which says another time

		// The answer is lost, and the request comes again, once with data that were sent after it.
		for _, s := range []segment{request, k.segment(psh|ack, "")} {
			if len(s.payload) == 0 {
				s.seq = request.seq
				s.payload = append(bytes.Clone(request.payload), k.client.data(1, true, "x").take()...)
				k.seq = s.seq + uint32(len(s.payload))
			}
			k.later()
			again := k.put(k.out, s, k.ctx)
			k.did(again, k.answers, k.hookOut+" ack answered")
			k.is(again.segment, psh|ack, first.segment.seq, k.seq, nil)
			if !bytes.Equal(again.segment.payload, first.segment.payload) {
				t.Errorf("the answer was %q, and then %q", first.segment.payload, again.segment.payload)
			}
			// The network has made a copy of the packet, which arrives at once.
			k.changed(func(c *bpf.CKeptConnection) { c.Repeated = uint64(tables.Now() + int64(time.Minute)) })
			k.did(k.put(k.out, s, k.ctx), verdictDrop, k.hookOut+" swallow answered")
		}
		k.later()
		// It comes again although the client has the answer.
		k.ack += uint32(len(first.segment.payload))
		request.ack = k.ack
		again := k.put(k.out, request, k.ctx)
		k.did(again, k.answers, k.hookOut+" ack answered")
		k.is(again.segment, ack, k.ack, k.seq, nil)
		k.r.wantTotals(want{Rejected: map[string]uint64{"open respond": 1}})
	})
}

// The second of three answers is lost. The client sends the request again, with or without the next, and gets both.
func TestLostAnswerBeforeOthers(t *testing.T) {
	keptWherever(t, func(t *testing.T, c *conn) {
		k := c.keep(t, "open")
		k.asks(k.preface(), "ack answered", psh|ack, 1, list(greeting, []string{"SETTINGS ACK"})...)
		k.asks(k.client.get(1).take(), "respond open", psh|ack, 1, full(1, "open", 60)...)
		begin := k.seq
		request := k.segment(psh|ack, k.client.get(3).take())
		lost := k.send(psh|ack, string(request.payload))
		third := k.send(psh|ack, k.client.call(5).take())
		k.did(lost, k.answers, k.hookOut+" respond open")
		k.did(third, k.answers, k.hookOut+" respond open")
		k.is(third.segment, psh|ack, lost.segment.seq+uint32(len(lost.segment.payload)), begin, nil)
		k.did(k.send(ack, ""), verdictDrop, k.hookOut+" swallow answered") // it has a gap
		again := k.put(k.out, request, k.ctx)
		if want := string(lost.segment.payload) + string(third.segment.payload); string(again.segment.payload) != want {
			t.Errorf("the answers were %q, and then %q", want, again.segment.payload)
		}
		k.gets(again, "ack answered", psh|ack, k.seq, 1, list(full(3, "open", 60), trailers(5, "open"))...)
		k.did(k.send(ack, ""), verdictDrop, k.hookOut+" swallow answered")
	})
}

// Data without an answer are acknowledged only when the client has the answers before them: else it would never ask for them.
func TestDataAfterALostAnswer(t *testing.T) {
	keptWherever(t, func(t *testing.T, c *conn) {
		k := c.keep(t, "open")
		k.asks(k.preface(), "ack answered", psh|ack, 1, list(greeting, []string{"SETTINGS ACK"})...)
		lost := k.send(psh|ack, k.client.headers(1, false, ":method", "POST").take())
		k.did(lost, k.answers, k.hookOut+" respond open")
		data := k.segment(psh|ack, k.client.data(1, true, "body").take())
		k.did(k.send(psh|ack, string(data.payload)), verdictDrop, k.hookOut+" swallow answered")
		k.gets(k.put(k.out, data, k.ctx), "ack answered", psh|ack, k.seq, 1, full(1, "open", 60)...)

		// Not lost, but late.
		late := k.send(psh|ack, k.client.headers(3, false, ":method", "POST").take())
		k.did(k.send(psh|ack, k.client.data(3, true, "body").take()), verdictDrop, k.hookOut+" swallow answered")
		k.gets(late, "respond open", psh|ack, late.segment.ack, 1, full(3, "open", 60)...)
		k.gets(k.send(ack, ""), "ack answered", ack, k.seq, 1)
		k.did(k.send(ack, ""), verdictDrop, k.hookOut+" swallow answered")
	})
}

// Segments are lost or reordered on their way to the kernel.
func TestGapsOnAKeptConnection(t *testing.T) {
	atEgress(t, func(t *testing.T, c *conn) {
		k := c.keep(t, "open")
		k.asks(k.preface(), "ack answered", psh|ack, 1, list(greeting, []string{"SETTINGS ACK"})...)
		first := k.client.get(1).take()
		second := k.client.get(3).take()
		begin := k.seq
		k.seq += uint32(len(first))
		ahead := k.put(k.out, k.segment(psh|ack, second), k.ctx)
		k.gets(ahead, "ack answered", ack, begin, 1)
		k.seq = begin
		k.asks(first, "respond open", psh|ack, 1, full(1, "open", 60)...)
		k.asks(second, "respond open", psh|ack, 1, full(3, "open", 60)...)
		// A gap in an upload, of which nothing is read, costs nothing. One that ends with a frame does not, either.
		upload := k.client.data(1, false, strings.Repeat("x", 3000)).data(1, true, "").take()
		begin = k.seq
		for _, part := range [][2]int{{0, 1000}, {2000, 2500}, {3009, 3018}} {
			k.seq = begin + uint32(part[0])
			k.asks(upload[part[0]:part[1]], "ack answered", ack, 1)
		}
		k.gets(k.put(k.out, segment{
			src: k.conn.client, dst: k.backend, flags: psh | ack, seq: begin + 1000, ack: k.ack, payload: []byte(upload[1000:2000]),
		}, k.ctx), "ack answered", ack, k.seq, 1)
		k.asks(k.client.get(5).take(), "respond open", psh|ack, 1, full(5, "open", 60)...)
		// One that ends within the next frame is not skipped.
		upload = k.client.data(5, true, strings.Repeat("x", 100)).get(7).take()
		k.asks(upload[:50], "ack answered", ack, 1)
		begin = k.seq
		k.seq += 59 + 5
		k.gets(k.put(k.out, k.segment(psh|ack, upload[109+5:]), k.ctx), "ack answered", ack, begin, 1)
		k.seq = begin
		k.asks(upload[50:], "respond open", psh|ack, 1, full(7, "open", 60)...)
		// A FIN ahead of data.
		k.seq += 100
		k.did(k.put(k.out, k.segment(fin|ack, ""), k.ctx), verdictDrop, "egress swallow answered")
	})
}

func TestKeptConnectionEnds(t *testing.T) {
	closed := ledger.Verdict{Kind: ledger.Closed, Generation: 2}
	halfOpen := func(calls uint32) ledger.Verdict {
		return ledger.Verdict{Kind: ledger.Open, Generation: 1, Until: tables.Now() - 1, Calls: calls, Concurrent: calls}
	}
	for _, tc := range []struct {
		name   string
		reason string
		change func(c *conn)
	}{
		{"closed", "admitted", func(c *conn) { c.r.d.SetVerdict(1, closed) }},
		{"half-open", "probe", func(c *conn) { c.r.d.SetVerdict(1, halfOpen(1)) }},
		{"disabled", "admitted", func(c *conn) { c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Disabled, Generation: 2}) }},
		{"monitored", "monitored", func(c *conn) {
			v := openFor(time.Minute)
			v.Monitor = true
			c.r.d.SetVerdict(1, v)
		}},
		{"lease expired", "lease-expired", func(c *conn) { c.r.d.RenewLease(tables.Now() - 1) }},
		{"policy gone", "untracked", func(c *conn) {
			// Another backend has the port.
			other := tables.Backend{Addr: netipAddr(c.backend, c.client.Addr().AsSlice())}
			if err := errors.Join(c.r.backend(other, 2, 0), c.r.d.RemoveBackend(tables.Backend{Addr: c.backend})); err != nil {
				c.r.t.Fatal(err)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			atEgress(t, func(t *testing.T, c *conn) {
				k := c.keep(t, "open")
				k.asks(k.preface()+k.client.get(1).take(), "respond open", psh|ack, 1,
					list(greeting, []string{"SETTINGS ACK"}, full(1, "open", 60))...)
				tc.change(c)
				// Without a request nothing changes.
				must(k.client.framer.WriteWindowUpdate(0, 9))
				k.asks(k.client.take(), "ack answered", ack, 1)
				end := k.segment(psh|ack, k.client.call(3).get(5).take())
				k.asks(string(end.payload), "respond "+tc.reason, fin|psh|ack, 1, "GOAWAY 1 NO_ERROR")
				again := k.put(k.out, end, k.ctx)
				k.did(again, k.answers, "egress ack answered")
				if len(again.segment.payload) != 17 || again.segment.flags != fin|psh|ack || again.segment.ack != k.seq {
					t.Errorf("again: %s", again.segment)
				}
				k.gets(k.send(fin|ack, ""), "ack answered", ack, k.seq, 1)
				k.r.wantTotals(want{Rejected: map[string]uint64{"open respond": 1}})
			})
		})
	}
}

// A client of HTTP gets one more answer, and the connection ends when it waits for nothing.
func TestKeptConnectionEndsWhenIdle(t *testing.T) {
	closed := ledger.Verdict{Kind: ledger.Closed, Generation: 2}
	begin := func(t *testing.T, c *conn) *kept {
		k := c.keep(t, "open")
		k.asks(k.preface()+k.client.get(1).take(), "respond open", psh|ack, 1,
			list(greeting, []string{"SETTINGS ACK"}, full(1, "open", 60))...)
		c.r.d.SetVerdict(1, closed)
		k.asks(k.client.get(3).take(), "respond admitted", psh|ack, 1, full(3, "open", 1)...)
		return k
	}
	t.Run("idle", func(t *testing.T) {
		atEgress(t, func(t *testing.T, c *conn) {
			k := begin(t, c)
			k.gets(k.send(ack, ""), "ack answered", fin|psh|ack, k.seq, 1, "GOAWAY 3 NO_ERROR")
			k.gets(k.send(fin|ack, ""), "ack answered", ack, k.seq, 1)
			k.r.wantTotals(want{Rejected: map[string]uint64{"open respond": 2}})
		})
	})
	t.Run("idle after a frame", func(t *testing.T) {
		atEgress(t, func(t *testing.T, c *conn) {
			k := begin(t, c)
			must(k.client.framer.WriteWindowUpdate(0, 9))
			k.asks(k.client.take(), "respond admitted", fin|psh|ack, 1, "GOAWAY 3 NO_ERROR")
			k.r.wantTotals(want{Rejected: map[string]uint64{"open respond": 2}})
		})
	})
	t.Run("another one at once", func(t *testing.T) {
		atEgress(t, func(t *testing.T, c *conn) {
			k := begin(t, c)
			k.asks(k.client.get(5).take(), "respond admitted", psh|ack, 1, full(5, "open", 1)...)
			k.r.wantTotals(want{Rejected: map[string]uint64{"open respond": 3}})
		})
	})
	t.Run("another one later", func(t *testing.T) {
		atEgress(t, func(t *testing.T, c *conn) {
			k := begin(t, c)
			k.changed(func(c *bpf.CKeptConnection) { c.Ending -= uint64(100 * time.Millisecond) })
			k.asks(k.client.get(5).take(), "respond admitted", fin|psh|ack, 1, "GOAWAY 3 NO_ERROR")
			k.r.wantTotals(want{Rejected: map[string]uint64{"open respond": 2}})
		})
	})
	t.Run("a call of gRPC", func(t *testing.T) {
		atEgress(t, func(t *testing.T, c *conn) {
			k := begin(t, c)
			k.asks(k.client.call(5).take(), "respond admitted", fin|psh|ack, 1, "GOAWAY 3 NO_ERROR")
			k.r.wantTotals(want{Rejected: map[string]uint64{"open respond": 2}})
		})
	})
}

// A circuit that has ended being open may reject for other reasons.
func TestKeptConnectionStaysForOtherReasons(t *testing.T) {
	for _, tc := range []struct {
		reason string
		retry  int
		change func(c *conn, s tables.PolicySettings) tables.PolicySettings
	}{
		{"forced-open", 1, func(c *conn, s tables.PolicySettings) tables.PolicySettings {
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.ForcedOpen, Generation: 2})
			return s
		}},
		{"half-open", 1, func(c *conn, s tables.PolicySettings) tables.PolicySettings {
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Open, Generation: 1, Until: tables.Now() - 1, Calls: 1, Concurrent: 2})
			other := c.r.dial(netipPort(c.client, 50000), c.backend)
			c.passed(other.send(syn, ""), "egress", "probe")
			return s
		}},
		{"connection-limit", 1, func(c *conn, s tables.PolicySettings) tables.PolicySettings {
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Closed, Generation: 2})
			s.MaxConnections = 1
			other := c.r.dial(netipPort(c.client, 50000), c.backend)
			c.passed(other.send(syn, ""), "egress", "admitted")
			return s
		}},
		{"request-limit", 1, func(c *conn, s tables.PolicySettings) tables.PolicySettings {
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Closed, Generation: 2})
			s.MaxRequests = 1
			other := c.r.dial(netipPort(c.client, 50000), c.backend).open()
			other.ask(get)
			return s
		}},
		{"rate-limit", 1, func(c *conn, s tables.PolicySettings) tables.PolicySettings {
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Closed, Generation: 2})
			s.RateLimit, s.RatePeriod, s.RateBurst = 1, 20*time.Second, 1
			if err := c.r.d.PutPolicy(1, s); err != nil {
				c.r.t.Fatal(err)
			}
			c.r.dial(netipPort(c.client, 50000), c.backend).open().ask(get)
			return s
		}},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			s := newRig(t).http2Answers(tables.PolicySettings{Reject: tables.Respond, Existing: true})
			for i, reason := range answer.Reasons() {
				a := answer.Render(answer.Spec{Status: 503, Body: reason}, reason, true)
				s.Answers[i] = 10 + i
				if err := common.rig.d.PutAnswer(10+i, tables.Answer{Bytes: a.Bytes, HeadLen: a.HeadLen, RetryAt: a.RetryAt, Status: 503}); err != nil {
					t.Fatal(err)
				}
			}
			at(t, places[:1], s, ledger.Verdict{}, func(t *testing.T, c *conn) {
				c.r.d.SetVerdict(1, openFor(time.Minute))
				k := c.keep(t, "open")
				k.asks(k.preface(), "ack answered", psh|ack, 1, list(greeting, []string{"SETTINGS ACK"})...)
				changed := tc.change(c, s)
				if err := c.r.d.PutPolicy(1, changed); err != nil {
					t.Fatal(err)
				}
				before := c.r.totals(1)
				k.asks(k.client.call(1).take(), "respond "+tc.reason, psh|ack, 1, trailers(1, tc.reason)...)
				before.Rejected = map[string]uint64{tc.reason + " respond": 1}
				c.r.wantTotals(before)
			})
		})
	}
}

func TestGarbageOnAKeptConnection(t *testing.T) {
	raw := func(kind http2.FrameType, flags http2.Flags, stream uint32, payload string) func(p *peer) {
		return func(p *peer) { must(p.framer.WriteRawFrame(kind, flags, stream, []byte(payload))) }
	}
	for _, tc := range []struct {
		name  string
		write func(p *peer)
	}{
		{"HEADERS on stream 0", raw(http2.FrameHeaders, 4, 0, "\x82")},
		{"HEADERS on an even stream", raw(http2.FrameHeaders, 4, 2, "\x82")},
		{"a frame of 16,385 bytes", raw(http2.FrameData, 0, 1, strings.Repeat("x", 16385))},
		{"CONTINUATION alone", raw(http2.FrameContinuation, 4, 1, "\x82")},
		{"a frame in a header block", func(p *peer) {
			raw(http2.FrameHeaders, 0, 3, "\x82")(p)
			raw(http2.FrameData, 0, 3, "x")(p)
		}},
		{"endless CONTINUATION", func(p *peer) {
			raw(http2.FrameHeaders, 0, 3, "\x82")(p)
			for range 9 {
				raw(http2.FrameContinuation, 0, 3, "\x00\x01x\xff\xff\xff\x00"+strings.Repeat("y", 16000))(p)
			}
		}},
		{"PUSH_PROMISE", raw(http2.FramePushPromise, 4, 1, "\x00\x00\x00\x02\x82")},
		{"a PING of 9 bytes", raw(http2.FramePing, 0, 0, "123456789")},
		{"SETTINGS on a stream", raw(http2.FrameSettings, 0, 1, "")},
		{"DATA on stream 0", raw(http2.FrameData, 0, 0, "x")},
		{"padding longer than its frame", raw(http2.FrameHeaders, 4|8, 3, "\xffxx")},
		{"a header block that ends within a field", raw(http2.FrameHeaders, 4, 3, "\x00\x05ab")},
		{"index 0", raw(http2.FrameHeaders, 4, 3, "\x80")},
		{"HTTP/1.1", func(p *peer) { p.buf.WriteString("GET / HTTP/1.1\r\n\r\n") }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			atEgress(t, func(t *testing.T, c *conn) {
				k := c.keep(t, "open")
				k.asks(k.preface()+k.client.get(1).take(), "respond open", psh|ack, 1,
					list(greeting, []string{"SETTINGS ACK"}, full(1, "open", 60))...)
				tc.write(k.client)
				data := k.client.take()
				for len(data) > 1400 {
					res := k.send(psh|ack, data[:1400])
					k.ack += uint32(len(res.segment.payload))
					if res.segment.flags&fin != 0 {
						data = ""
						k.ack++
						break
					}
					data = data[1400:]
				}
				if data != "" {
					k.asks(data, "ack answered", fin|psh|ack, 1, "GOAWAY 1 PROTOCOL_ERROR")
				}
				k.gets(k.send(fin|ack, ""), "ack answered", ack, k.seq, 1)
				var circuit bpf.CCircuit
				if err := k.r.d.objs.Circuits.Lookup(uint32(1), &circuit); err != nil || circuit.Openings[bpf.COpeningOPENING_MALFORMED_HTTP2] != 1 {
					t.Errorf("%d connections were malformed (%v)", circuit.Openings[bpf.COpeningOPENING_MALFORMED_HTTP2], err)
				}
				k.r.wantTotals(want{Rejected: map[string]uint64{"open respond": 1}})
			})
		})
	}
}

func TestKeptConnectionIsReset(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(c *conn, s *tables.PolicySettings)
		want   map[string]uint64
		count  string
	}{
		{"no answer", func(_ *conn, s *tables.PolicySettings) {
			s.HTTP2Answers, s.GRPCAnswers = tables.NoAnswers(), tables.NoAnswers()
		},
			map[string]uint64{"open reset": 1}, "open"},
		{"the policy resets", func(_ *conn, s *tables.PolicySettings) { s.Reject = tables.Reset }, map[string]uint64{"open reset": 1}, "open"},
		{"the policy drops", func(_ *conn, s *tables.PolicySettings) { s.Reject = tables.Drop }, map[string]uint64{"open reset": 1}, "open"},
		{"the entry was evicted", func(c *conn, _ *tables.PolicySettings) {
			if err := c.r.d.objs.CMaps.Kept.Delete(flowKey(c.client, c.backend)); err != nil {
				c.r.t.Fatal(err)
			}
		}, nil, "answered"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			atEgress(t, func(t *testing.T, c *conn) {
				k := c.keep(t, "open")
				k.asks(k.preface(), "ack answered", psh|ack, 1, list(greeting, []string{"SETTINGS ACK"})...)
				s := c.r.http2Answers(tables.PolicySettings{Reject: tables.Respond, Existing: true})
				tc.change(c, &s)
				if err := c.r.d.PutPolicy(1, s); err != nil {
					t.Fatal(err)
				}
				res := k.send(psh|ack, k.client.call(1).take())
				k.did(res, verdictRedirect, "egress reset "+tc.count)
				k.is(res.segment, rst|ack, k.ack, k.seq, nil)
				k.r.wantTotals(want{Rejected: tc.want})
			})
		})
	}
}

// A flood of answers in HTTP/1.x evicts the entry by which the connection is found first.
func TestKeptConnectionWithoutItsMark(t *testing.T) {
	keptWherever(t, func(t *testing.T, c *conn) {
		k := c.keep(t, "open")
		k.asks(k.preface(), "ack answered", psh|ack, 1, list(greeting, []string{"SETTINGS ACK"})...)
		evict := func() {
			if err := k.r.d.objs.Answered.Delete(flowKey(k.conn.client, k.backend)); err != nil {
				t.Fatal(err)
			}
		}
		evict()
		k.asks(k.client.get(1).take(), "respond open", psh|ack, 1, full(1, "open", 60)...)
		again := k.segment(syn, "")
		again.seq, again.ack, again.options = 1000, 0, mssOption(1460)
		k.did(k.put(k.out, again, k.ctx), verdictDrop, k.hookOut+" swallow answered")
		// The client uses its ports for another connection, of HTTP/1.x.
		k.seq = 900000
		k.answeredSYN("open")
		res := k.send(psh|ack, get)
		k.did(res, k.answers, k.hookOut+" respond open")
		k.isAnswer(res.segment, k.ack, k.seq, nil, unavailable, "open", "not now: open")
	})
}

func TestKeptConnectionAndControlSegments(t *testing.T) {
	keptWherever(t, func(t *testing.T, c *conn) {
		k := c.keep(t, "open")
		k.asks(k.preface(), "ack answered", psh|ack, 1, list(greeting, []string{"SETTINGS ACK"})...)
		syn0 := k.segment(syn, "")
		syn0.seq, syn0.ack, syn0.options = 1000, 0, mssOption(1460)
		k.did(k.put(k.out, syn0, k.ctx), verdictDrop, k.hookOut+" swallow answered")

		probe := k.segment(ack, "")
		probe.seq--
		k.gets(k.put(k.out, probe, k.ctx), "ack answered", ack, k.seq, 1)
		probe.payload = []byte{0}
		k.gets(k.put(k.out, probe, k.ctx), "ack answered", ack, k.seq, 1)

		// A reset with another number changes nothing.
		forged := k.segment(rst, "")
		forged.seq -= 1000
		k.did(k.put(k.out, forged, k.ctx), verdictDrop, k.hookOut+" swallow answered")
		k.asks(k.client.get(1).take(), "respond open", psh|ack, 1, full(1, "open", 60)...)

		// The client uses its ports for another connection.
		k.seq = 900000
		k.keep(t, "open")
		k.client, k.reader = newPeer(), newReader(t)
		k.asks(k.preface(), "ack answered", psh|ack, 1, list(greeting, []string{"SETTINGS ACK"})...)
		k.did(k.send(rst, ""), verdictDrop, k.hookOut+" swallow answered")
		k.r.wantTotals(want{Rejected: map[string]uint64{"open respond": 1}})
	})
}

// With timestamps, the client's are sent back.
func TestKeptConnectionWithTimestamps(t *testing.T) {
	atEgress(t, func(t *testing.T, c *conn) {
		k := c.keep(t, "open")
		k.options = timestamps(7, 9)
		res := k.send(psh|ack, k.preface()+k.client.get(1).take())
		k.did(res, k.answers, "egress respond open")
		k.is(res.segment, psh|ack, k.ack, k.seq, timestamps(9, 7))
	})
}
