package answer

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestRenderIsHTTP(t *testing.T) {
	spec := Spec{
		Status: 503, ContentType: "application/json", Body: `{"error":"circuit open"}`,
		Headers: []Header{{"Cache-Control", "no-store"}, {"X-Team", "orders"}},
	}
	for _, reason := range Reasons() {
		for _, retryAfter := range []bool{false, true} {
			for extra := range 5 {
				spec.Body += strings.Repeat("x", extra)
				checkAnswer(t, spec, reason, retryAfter)
			}
		}
	}
}

func checkAnswer(t *testing.T, spec Spec, reason string, retryAfter bool) {
	t.Helper()
	r := Render(spec, reason, retryAfter)
	if len(r.Bytes)%4 != 0 {
		t.Errorf("%s: length %d is not a multiple of 4", reason, len(r.Bytes))
	}
	if retryAfter {
		if r.RetryAt%2 != 0 || string(r.Bytes[r.RetryAt:r.RetryAt+RetryFieldLen]) != "       0" {
			t.Errorf("%s: field at %d holds %q", reason, r.RetryAt, r.Bytes[r.RetryAt:r.RetryAt+RetryFieldLen])
		}
		copy(r.Bytes[r.RetryAt:], "      29")
	} else if r.RetryAt != -1 {
		t.Errorf("%s: RetryAt is %d, want -1", reason, r.RetryAt)
	}
	if head := string(r.Bytes[:r.HeadLen]); !strings.HasSuffix(head, "\r\n\r\n") || strings.Count(head, "\r\n\r\n") != 1 {
		t.Errorf("%s: head is %q", reason, head)
	}

	for line := range strings.SplitSeq(string(r.Bytes[:r.HeadLen]), "\r\n") {
		// Of the status line only the reason phrase may be empty.
		if name, value, header := strings.Cut(line, ":"); header && (strings.TrimRight(value, " ") != value || value == "" || name == "") {
			t.Errorf("%s: %q ends in blanks", reason, line)
		}
	}

	in := bufio.NewReader(bytes.NewReader(r.Bytes))
	response, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatalf("%s: %v in %q", reason, err, r.Bytes)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil || string(body) != spec.Body || in.Buffered() != 0 {
		t.Errorf("%s: body %q (%v), %d bytes left over", reason, body, err, in.Buffered())
	}
	want := map[string]string{
		"Server": "cbagent", "Content-Type": spec.ContentType, "X-Cbagent-Reason": reason, "Date": "", "Retry-After": "",
	}
	if retryAfter {
		want["Retry-After"] = "29"
	}
	for _, h := range spec.Headers {
		want[h.Name] = h.Value
	}
	for name, value := range want {
		if got := response.Header.Get(name); got != value {
			t.Errorf("%s: header %s is %q, want %q", reason, name, got, value)
		}
	}
	if response.StatusCode != spec.Status || !response.Close {
		t.Errorf("%s: status %d, close %t", reason, response.StatusCode, response.Close)
	}
}

func TestRenderBytes(t *testing.T) {
	got := Render(Spec{Status: 299, Body: "no"}, ReasonOpen, true)
	const want = "HTTP/1.1 299 \r\nServer: cbagent\r\nConnection: close\r\nContent-Length: 2\r\n" +
		"Retry-After:         0\r\nX-Cbagent-Reason:   open\r\n\r\nno"
	if string(got.Bytes) != want {
		t.Errorf("got  %q\nwant %q", got.Bytes, want)
	}
	if got.HeadLen != len(want)-2 || want[got.RetryAt:got.RetryAt+RetryFieldLen+2] != "       0\r\n" {
		t.Errorf("HeadLen %d, RetryAt %d", got.HeadLen, got.RetryAt)
	}
}

func TestChecks(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string // "" = accepted
	}{
		{CheckStatus(200), ""},
		{CheckStatus(599), ""},
		{CheckStatus(199), "must be between 200 and 599, got 199"},
		{CheckStatus(600), "must be between 200 and 599, got 600"},
		{CheckStatus(204), "must be a status that may have a body, got 204"},
		{CheckStatus(205), "must be a status that may have a body, got 205"},
		{CheckStatus(304), "must be a status that may have a body, got 304"},
		{CheckContentType(""), ""},
		{CheckContentType("text/plain; charset=utf-8"), ""},
		{CheckContentType("text/plain\r\nX: y"), "must be printable ASCII without line breaks, got byte 0x0d at offset 10"},
		{CheckContentType("plain text"), `must be a media type such as text/plain, got "plain text"`},
		{CheckBody(strings.Repeat("x", 1000)), ""},
		{CheckBody(strings.Repeat("x", 1001)), "must be at most 1000 bytes, got 1001"},
		{CheckHeader(Header{"Cache-Control", "no-store"}, true), ""},
		{CheckHeader(Header{"Retry-After", "120"}, false), ""},
		{CheckHeader(Header{"retry-after", "120"}, true), "is set by retryAfter; a value of your own needs retryAfter: false"},
		{CheckHeader(Header{"CONTENT-TYPE", "text/plain"}, true), "is set by contentType"},
		{CheckHeader(Header{"Server", "x"}, true), "Server is a header that cbagent sets itself, or that would change where the answer ends"},
		{CheckHeader(Header{"transfer-encoding", "chunked"}, true), "transfer-encoding is a header that cbagent sets itself, or that would change where the answer ends"},
		{CheckHeader(Header{"X Y", "1"}, true), "must be a header name (letters, digits and any of !#$%&'*+-.^_`|~), got \"X Y\""},
		{CheckHeader(Header{"", "1"}, true), "must be a header name (letters, digits and any of !#$%&'*+-.^_`|~), got \"\""},
		{CheckHeader(Header{"X", "a\nb"}, true), "must be printable ASCII without line breaks, got byte 0x0a at offset 1"},
		{CheckHeader(Header{"X", " a"}, true), `must not begin or end with blanks, got " a"`},
		{CheckHeader(Header{"Grpc-Status", "14"}, true), "is set by grpcStatus"},
		{CheckHeader(Header{"grpc-message", "x"}, true), "is set by message"},
		{CheckHeader(Header{"grpc-status-details-bin", "CA4"}, true), ""},
		{CheckGRPCSize(Spec{Message: strings.Repeat("x", 1104)}, "orders", Reasons()), ""},
		{CheckGRPCSize(Spec{Message: strings.Repeat("x", 1105)}, "orders", Reasons()),
			"the answer to a gRPC call with all its headers must be at most 1200 bytes, got 1201"},
		{CheckGRPCSize(Spec{Headers: []Header{{"X", strings.Repeat("y", 1100)}}}, "orders", Reasons()),
			"the answer to a gRPC call with all its headers must be at most 1200 bytes, got 1266"},
		{CheckSize(Spec{Status: 503, Body: strings.Repeat("x", 1000)}, Reasons(), true), ""},
		{CheckSize(Spec{Status: 503, Body: strings.Repeat("x", 1000), Headers: []Header{{"X", strings.Repeat("y", 100)}}}, Reasons(), true),
			"the answer with all its headers must be at most 1200 bytes, got 1260"},
	} {
		got := ""
		if test.err != nil {
			got = test.err.Error()
		}
		if got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}
