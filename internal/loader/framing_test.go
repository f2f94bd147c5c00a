package loader

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

const (
	chunkedHead = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	lastChunk   = "0\r\n\r\n"
)

// An answer on an open connection begins where the response before has ended. Where that is not known both sides are reset.
func TestAnswerComesAfterTheResponse(t *testing.T) {
	pieces := strings.Split(chunkedHead+"2\r\nok\r\n"+lastChunk, "")
	long := "HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("x", 3000) + "\r\nContent-Length: 2\r\n\r\nok"
	for _, tc := range []struct {
		name     string
		request  string
		response []string // segments
		answered bool
	}{
		{"nothing asked before", "", nil, true},
		{"Content-Length", get, []string{ok}, true},
		{"Content-Length, more to come", get, []string{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok"}, false},
		{"Content-Length, in three segments", get, []string{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "o", "k!"}, true},
		{"Content-Length, the last segment is missing", get, []string{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "o", "k"}, false},
		{"more than Content-Length", get, []string{ok + "!"}, false},
		{"spelled otherwise", get, []string{"HTTP/1.1 200 OK\r\ncOnTeNt-lEnGtH:\t 2 \r\n\r\nok"}, true},
		{"lines that end in LF", get, []string{"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"}, true},
		{"a name that begins like it", get, []string{"HTTP/1.1 200 OK\r\nContent-Lengthy: 2\r\n\r\nok"}, false},
		{"a value that is none", get, []string{"HTTP/1.1 200 OK\r\nContent-Length: 2x\r\n\r\nok"}, false},
		{"two values", get, []string{"HTTP/1.1 200 OK\r\nContent-Length: 0 2\r\n\r\nok"}, false},
		{"no blank before the value", get, []string{"HTTP/1.1 200 OK\r\nContent-Length:2\r\n\r\nok"}, true},
		{"blanks around the value", get, []string{"HTTP/1.1 200 OK\r\nContent-Length: \t2 \r\n\r\nok"}, true},
		{"eight digits", get, []string{"HTTP/1.1 200 OK\r\nContent-Length: 00000002\r\n\r\nok"}, true},
		{"nine digits", get, []string{"HTTP/1.1 200 OK\r\nContent-Length: 000000002\r\n\r\nok"}, true},
		{"each digit counts", get, []string{"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n", strings.Repeat("x", 1234)}, true},
		{"one byte less", get, []string{"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n", strings.Repeat("x", 1233)}, false},
		{"characters beside the digits", get, []string{"HTTP/1.1 200 OK\r\nContent-Length: :\r\n\r\n" + strings.Repeat("x", 10)}, false},
		{"a sign", get, []string{"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok"}, false},
		{"an empty value", get, []string{"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n"}, false},
		{"beyond sequence numbers", get, []string{"HTTP/1.1 200 OK\r\nContent-Length: 4294967298\r\n\r\nok"}, false},
		{"Content-Length twice", get, []string{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"}, false},
		{"Content-Length and chunks", get, []string{
			"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n" + lastChunk,
		}, false},
		{"neither", get, []string{"HTTP/1.1 200 OK\r\n\r\nok"}, false},
		{"a long head", get, []string{long}, true},
		{"a head out of reach", get, []string{"HTTP/1.1 200 OK\r\n" + strings.Repeat("A:\r\n", 820) + "Content-Length: 0\r\n\r\n"}, false},
		{"a head in two segments", get, []string{"HTTP/1.1 200 OK\r\n", "Content-Length: 0\r\n\r\n"}, false},
		{"a status line in two segments", get, []string{ok[:10], ok[10:]}, true},
		{"after a 103", get, []string{"HTTP/1.1 103 Early Hints\r\n\r\n" + ok}, true},
		{"HEAD", head, []string{"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"}, true},
		{"204", get, []string{"HTTP/1.1 204 No Content\r\n\r\n"}, true},
		{"304", get, []string{"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n"}, true},
		{"chunks", get, []string{chunkedHead + "2\r\nok\r\n" + lastChunk}, true},
		{"no chunk but the last", get, []string{chunkedHead + lastChunk}, true},
		{"chunks, more to come", get, []string{chunkedHead + "2\r\nok\r\n"}, false},
		{"the last chunk by itself", get, []string{chunkedHead + "2\r\nok\r\n", lastChunk}, true},
		{"the last chunk in pieces", get, []string{chunkedHead + "2\r\nok\r\n", "0", "\r\n\r", "\n"}, true},
		{"a chunk whose size ends in 0", get, []string{chunkedHead, "10\r\n\r\n"}, false},
		{"chunks byte by byte", get, pieces, false},
		{"chunks of a coding", get, []string{strings.Replace(chunkedHead, "chunked", "gzip, Chunked", 1) + lastChunk}, true},
		{"chunks inside a coding", get, []string{strings.Replace(chunkedHead, "chunked", "chunked, gzip", 1) + lastChunk}, false},
		{"trailers", get, []string{chunkedHead + "2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			everywhere(t, tables.PolicySettings{Existing: true}, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
				c.open()
				if tc.request != "" {
					c.ask(tc.request)
				}
				for _, s := range tc.response {
					c.answer(s)
				}
				c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.ForcedOpen, Generation: 2})
				res := c.send(psh|ack, get)
				if len(res.sent) != 1 || res.sent[0].flags&rst == 0 {
					t.Errorf("the backend got %v, expected a RST", res.sent)
				}
				if tc.answered {
					c.did(res, c.answers, c.hookOut+" respond forced-open")
					c.isAnswer(res.segment, c.ack, c.seq, nil, unavailable, "forced-open", "not now: forced-open")
					return
				}
				c.did(res, c.answers, c.hookOut+" reset forced-open")
				c.is(res.segment, rst|ack, c.ack, c.seq, nil)
			})
		})
	}
}

// An answer below bytes that are under way would be taken for them, or thrown away.
func TestNoAnswerBelowBytesUnderWay(t *testing.T) {
	everywhere(t, tables.PolicySettings{Existing: true}, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
		c.open().ask(get)
		acknowledged := c.ack
		c.answer(ok)
		c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.ForcedOpen, Generation: 2})
		end := c.ack
		c.ack = acknowledged
		res := c.send(psh|ack, get)
		c.did(res, c.answers, c.hookOut+" reset forced-open")
		c.is(res.segment, rst|ack, end, c.seq, nil)
	})
}

// What is left of a request's body after an early response is no request, whatever it looks like.
func TestBodyAfterAnEarlyResponse(t *testing.T) {
	const (
		early   = "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"
		chunked = "POST /log HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
	)
	post := fmt.Sprintf("POST /log HTTP/1.1\r\nContent-Length: %d\r\n\r\n", 3*len(get))
	for _, tc := range []struct {
		name string
		run  func(c *conn)
		want want
	}{
		{"Content-Length", func(c *conn) {
			c.ask(post)
			c.answer(early)
			for range 3 {
				c.passed(c.send(psh|ack, get), c.hookOut, "flow")
			}
			c.ask(get)
			c.answer(ok)
			c.end()
		}, outcomes(2, 2, 0, "4xx", "2xx")},
		{"Content-Length, while the circuit is open", func(c *conn) {
			c.ask(post)
			c.answer(early)
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.ForcedOpen, Generation: 2})
			for range 3 {
				c.passed(c.send(psh|ack, get), c.hookOut, "flow")
			}
			c.did(c.send(psh|ack, get), c.answers, c.hookOut+" respond forced-open")
		}, want{Admitted: 1, Rejected: map[string]uint64{"forced-open respond": 1}, Outcomes: map[string]uint64{"4xx": 1}}},
		{"the next request behind the rest", func(c *conn) {
			c.ask(post)
			c.answer(early)
			c.passed(c.send(psh|ack, get), c.hookOut, "flow")
			c.ask(get + get + get)
			c.answer(ok)
			c.end()
		}, outcomes(2, 2, 0, "4xx", "2xx")},
		{"the next request behind the rest, rejected", func(c *conn) {
			c.ask(post)
			c.answer(early)
			c.passed(c.send(psh|ack, get), c.hookOut, "flow")
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.ForcedOpen, Generation: 2})
			c.did(c.send(psh|ack, get+get+head), c.answers, c.hookOut+" respond forced-open")
		}, want{Admitted: 1, Rejected: map[string]uint64{"forced-open respond": 1}, Outcomes: map[string]uint64{"4xx": 1}}},
		{"chunks", func(c *conn) {
			c.ask(chunked)
			c.answer(early)
			c.passed(c.send(psh|ack, "40\r\n"), c.hookOut, "flow")
			c.passed(c.send(psh|ack, get), c.hookOut, "flow")
			c.passed(c.send(psh|ack, "\r\n"), c.hookOut, "flow")
			c.passed(c.send(psh|ack, lastChunk), c.hookOut, "flow")
			c.ask(get)
			c.answer(ok)
			c.end()
		}, outcomes(2, 2, 0, "4xx", "2xx")},
		{"chunks that look like a request, while the circuit is open", func(c *conn) {
			c.ask(chunked)
			c.answer(early)
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.ForcedOpen, Generation: 2})
			c.passed(c.send(psh|ack, "40\r\n"), c.hookOut, "flow")
			c.did(c.send(psh|ack, get), c.answers, c.hookOut+" reset forced-open")
		}, want{Admitted: 1, Rejected: map[string]uint64{"forced-open reset": 1}, Outcomes: map[string]uint64{"4xx": 1}}},
		{"trailers", func(c *conn) {
			c.ask(chunked)
			c.passed(c.send(psh|ack, "2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"), c.hookOut, "flow")
			c.answer(ok)
			c.passed(c.send(psh|ack, get), c.hookOut, "flow") // may be a chunk
			c.answer(ok)                                      // it was none
			c.ask(get)
			c.answer(failed)
			c.end()
		}, outcomes(2, 2, 1, "2xx", "5xx")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			everywhere(t, tables.PolicySettings{Existing: true}, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
				c.open()
				tc.run(c)
				w := c.r.totals(1)
				w.Unjudged = tc.want.Unjudged // judged before the last verdict, where there is one
				if tc.want.Rejected != nil {
					w.Judged = 0
				}
				if w.Judged != tc.want.Judged || fmt.Sprint(w) != fmt.Sprint(tc.want) {
					t.Errorf("totals %+v, expected %+v", w, tc.want)
				}
			})
		})
	}
}

// A request that is sent while the response before still comes has its own response after that.
func TestRequestDuringAResponse(t *testing.T) {
	everywhere(t, tables.PolicySettings{Existing: true}, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
		c.open().ask(get)
		c.answer("HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n0123456789")
		c.ask(get)
		c.answer("HTTP/1.1 500 Not a head\r\n\r\n!!!")
		c.answer(failed)
		c.r.wantTotals(want{
			Connections: 1, Admitted: 2, Judged: 2, Failures: 1, Outcomes: map[string]uint64{"2xx": 1, "5xx": 1},
		})
	})
}
