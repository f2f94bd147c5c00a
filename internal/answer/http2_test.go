package answer

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// stream is what a client reads of one stream.
type stream struct {
	fields []hpack.HeaderField
	body   string
	frames int
	ended  bool
}

func (s *stream) values() map[string]string {
	m := map[string]string{}
	for _, f := range s.fields {
		m[f.Name] = f.Value
	}
	return m
}

// readStream reads the frames of one stream, as the sender makes them of an answer.
func readStream(t *testing.T, b []byte, id uint32) stream {
	t.Helper()
	var s stream
	// The table of the client does not change: the answer comes at any place of a connection.
	decoder := hpack.NewDecoder(4096, func(f hpack.HeaderField) { s.fields = append(s.fields, f) })
	decoder.SetMaxDynamicTableSize(0)
	in := http2.NewFramer(io.Discard, bytes.NewReader(b))
	for {
		f, err := in.ReadFrame()
		if errors.Is(err, io.EOF) {
			return s
		}
		if err != nil {
			t.Fatalf("%v in %x", err, b)
		}
		if f.Header().StreamID != id || s.ended {
			t.Errorf("%v after the end: %v", f, s.ended)
		}
		s.frames++
		switch f := f.(type) {
		case *http2.HeadersFrame:
			if !f.HeadersEnded() || s.frames != 1 {
				t.Errorf("%v is the frame %d", f, s.frames)
			}
			if _, err := decoder.Write(f.HeaderBlockFragment()); err != nil {
				t.Fatalf("%v in %x", err, f.HeaderBlockFragment())
			}
			if err := decoder.Close(); err != nil {
				t.Fatal(err)
			}
			s.ended = f.StreamEnded()
		case *http2.DataFrame:
			s.body += string(f.Data())
			s.ended = f.StreamEnded()
		default:
			t.Errorf("%v", f)
		}
	}
}

// sent returns an answer as the kernel sends it.
func sent(t *testing.T, r Rendered, id uint32, seconds int, head bool) []byte {
	t.Helper()
	b := bytes.Clone(r.Bytes)
	setID := func(at int) {
		if !bytes.Equal(b[at:at+4], make([]byte, 4)) {
			t.Errorf("the identifier at %d is %x, expected 0", at, b[at:at+4])
		}
		copy(b[at:], []byte{byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)})
	}
	setID(5)
	if r.Frames == 2 {
		setID(r.HeadLen + 5)
	}
	if r.RetryAt >= 0 {
		digits := strconv.Itoa(seconds)
		copy(b[r.RetryAt:], strings.Repeat(string(r.RetryPad), RetryFieldLen-len(digits))+digits)
	}
	if head {
		b = b[:r.HeadLen]
		b[4] |= endStream
	}
	return b
}

func TestHTTP2AnswerIsRead(t *testing.T) {
	for _, status := range []int{200, 400, 418, 429, 500, 503} {
		for _, body := range []string{"", "x", `{"error":"circuit open"}`, strings.Repeat("y", MaxBody)} {
			for _, retryAfter := range []bool{false, true} {
				for _, contentType := range []string{"", "text/plain", "application/json"} {
					for _, reason := range Reasons() {
						checkHTTP2(t, Spec{
							Status: status, Body: body, ContentType: contentType,
							Headers: []Header{{"Cache-Control", "no-store"}, {"X-Team", "a\tb " + strings.Repeat("z", len(body)%300)}},
						}, reason, retryAfter)
					}
				}
			}
		}
	}
}

func checkHTTP2(t *testing.T, spec Spec, reason string, retryAfter bool) {
	t.Helper()
	r := RenderHTTP2(spec, reason, retryAfter)
	want := map[string]string{
		":status": strconv.Itoa(spec.Status), "server": "cbagent", "content-length": strconv.Itoa(len(spec.Body)),
		"x-cbagent-reason": reason, "cache-control": "no-store", "x-team": spec.Headers[1].Value,
	}
	if spec.ContentType != "" {
		want["content-type"] = spec.ContentType
	}
	if retryAfter {
		if r.RetryAt < 0 || r.RetryAt%2 != 0 || string(r.Bytes[r.RetryAt:r.RetryAt+RetryFieldLen]) != "00000000" {
			t.Fatalf("the seconds are at %d", r.RetryAt)
		}
	} else if r.RetryAt != -1 {
		t.Fatalf("the seconds are at %d, although there are none", r.RetryAt)
	}
	if r.Status != spec.Status || r.Frames != 1+min(len(spec.Body), 1) {
		t.Errorf("status %d, %d frames", r.Status, r.Frames)
	}
	for _, head := range []bool{false, true} {
		s := readStream(t, sent(t, r, 1<<31-1, 1234567, head), 1<<31-1)
		got := s.values()
		if retryAfter {
			if n, err := strconv.Atoi(got["retry-after"]); n != 1234567 || err != nil || strings.TrimSpace(got["retry-after"]) != got["retry-after"] {
				t.Errorf("Retry-After is %q", got["retry-after"])
			}
			delete(got, "retry-after")
		}
		if diff := cmp.Diff(want, got); diff != "" || len(s.fields) != len(want)+r.retryFields() {
			t.Errorf("fields (-want +got):\n%s", diff)
		}
		if s.fields[0].Name != ":status" {
			t.Errorf("the first field is %v", s.fields[0])
		}
		wantBody := spec.Body
		if head {
			wantBody = ""
		}
		if s.body != wantBody || !s.ended {
			t.Errorf("body %q, ended %v", s.body, s.ended)
		}
	}
}

func (r Rendered) retryFields() int {
	if r.RetryAt < 0 {
		return 0
	}
	return 1
}

func TestGRPCAnswerIsRead(t *testing.T) {
	for _, reason := range Reasons() {
		for code := range 17 {
			for _, message := range []string{"", "circuit open", "100% schön\r\n", " blanks ", "  ", "\x00\x7f~", strings.Repeat("é", 200)} {
				r := RenderGRPC(Spec{GRPCStatus: code, Message: message, Status: 503, Body: "not sent", Headers: []Header{{"X-Team", "orders"}}}, reason)
				if r.Frames != 1 || r.HeadLen != len(r.Bytes) || r.RetryAt != -1 || r.Status != 200 {
					t.Fatalf("%+v", r)
				}
				s := readStream(t, sent(t, r, 7, 0, false), 7)
				got := s.values()
				if said, err := url.PathUnescape(got["grpc-message"]); said != message || err != nil {
					t.Errorf("the message %q became %q: %v", message, got["grpc-message"], err)
				}
				if strings.Trim(got["grpc-message"], " ") != got["grpc-message"] {
					t.Errorf("the message %q has blanks at its ends", got["grpc-message"])
				}
				delete(got, "grpc-message")
				want := map[string]string{
					":status": "200", "content-type": "application/grpc", "grpc-status": strconv.Itoa(code), "x-cbagent-reason": reason, "x-team": "orders",
				}
				if diff := cmp.Diff(want, got); diff != "" || !s.ended || s.body != "" {
					t.Errorf("fields (-want +got), body %q, ended %v:\n%s", s.body, s.ended, diff)
				}
			}
		}
	}
}

func TestHTTP2Bytes(t *testing.T) {
	for _, test := range []struct {
		got  Rendered
		want string
	}{
		{RenderGRPC(Spec{GRPCStatus: 14, Message: "circuit open (cbagent)"}, ReasonOpen),
			"000060010500000000" + "88" + "0f10106170706c69636174696f6e2f67727063" + "000b677270632d737461747573023134" +
				"000c677270632d6d6573736167651663697263756974206f70656e202863626167656e7429" + "0010782d63626167656e742d726561736f6e046f70656e"},
		{RenderHTTP2(Spec{Status: 503, Body: "no"}, ReasonOpen, true),
			"000036010400000000" + "0803353033" + "0f270763626167656e74" + "0f0d0132" + "0f2609303030303030303030" +
				"0010782d63626167656e742d726561736f6e046f70656e" + "000002000100000000" + "6e6f"},
	} {
		if got := hex.EncodeToString(test.got.Bytes); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

func TestPercentEncoding(t *testing.T) {
	for message, want := range map[string]string{
		"circuit open": "circuit open", "100%": "100%25", "é\n": "%C3%A9%0A", "a~\x7f": "a~%7F", " a b ": "%20a b%20", "  ": "%20%20",
	} {
		if got := percentEncoded(message); got != want {
			t.Errorf("%q: got %q, want %q", message, got, want)
		}
	}
}

// Names of the static table have the index that the standard gives them.
func TestStaticNames(t *testing.T) {
	for _, name := range staticNames {
		var b block
		b.name(name)
		b.text("value")
		fields, err := hpack.NewDecoder(0, nil).DecodeFull(b)
		if err != nil || len(fields) != 1 || fields[0].Name != name || fields[0].Value != "value" || len(b) > 2+6 {
			t.Errorf("%s: %v, %v in %x", name, fields, err, []byte(b))
		}
	}
}
