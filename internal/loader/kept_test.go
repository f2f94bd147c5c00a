package loader

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/cbagent/cbagent/internal/answer"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// http2Answers gives policies answers in HTTP/2 and for gRPC: places 20 to 25 and 30 to 35.
func (r *rig) http2Answers(s tables.PolicySettings) tables.PolicySettings {
	r.t.Helper()
	for i, reason := range answer.Reasons() {
		status := 503
		if tables.Rejection(i) == tables.RejectedRateLimit {
			status = 429
		}
		spec := answer.Spec{Status: status, ContentType: "text/plain", Body: "not now: " + reason, GRPCStatus: 14, Message: "not now: " + reason}
		r.putRendered(20+i, answer.RenderHTTP2(spec, reason, true))
		r.putRendered(30+i, answer.RenderGRPC(spec, reason))
		s.HTTP2Answers[i], s.GRPCAnswers[i] = 20+i, 30+i
	}
	return s
}

func (r *rig) putRendered(index int, a answer.Rendered) {
	r.t.Helper()
	err := r.d.PutAnswer(index, tables.Answer{
		Bytes: a.Bytes, HeadLen: a.HeadLen, RetryAt: a.RetryAt, RetryPad: a.RetryPad, Status: a.Status, Frames: a.Frames,
	})
	if err != nil {
		r.t.Fatal(err)
	}
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
	return []string{fmt.Sprintf("HEADERS %d :status=200 content-type=application/grpc grpc-status=14 grpc-message=not now: %s x-cbagent-reason=%s END",
		stream, reason, reason)}
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
		if len(s.payload) > 1200 {
			k.t.Errorf("a segment has %d bytes", len(s.payload))
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
		k.asks(k.client.get(1).take(), "respond open", psh|ack, 1, full(1, "open", 60)...)
		k.asks(k.client.call(3).take(), "respond open", psh|ack, 1, trailers(3, "open")...)
		k.asks(k.client.headers(5, true, ":method", "HEAD", ":path", "/").take(), "respond open", psh|ack, 1, headOnly(5, "open", 60)...)
		k.r.wantTotals(want{Rejected: map[string]uint64{"open respond": 3}})
	})
}
