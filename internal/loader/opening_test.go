package loader

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

const (
	proxyV1 = "PROXY TCP4 192.0.2.10 198.51.100.7 40000 8080\r\n"
	proxyV2 = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + "\xc0\x00\x02\x0a\xc6\x33\x64\x07\x9c\x40\x1f\x90"
)

// What a connection begins with is counted where it is no request.
func TestOpenings(t *testing.T) {
	for _, tc := range []struct {
		name     string
		segments []string
		opening  tables.Opening // -1: none is counted
		requests uint64
	}{
		{"a request", []string{get}, -1, 1},
		{"TLS", []string{"\x16\x03\x01\x02\x00\x01", get}, tables.OpeningTLS, 1},
		{"HTTP/2", []string{http2.ClientPreface, "\x00\x00\x00\x04\x00\x00\x00\x00\x00"}, -1, 0},
		{"malformed HTTP/2", []string{http2.ClientPreface, "settings, in words"}, tables.OpeningMalformed, 0},
		{"something else", []string{"SSH-2.0-OpenSSH\r\n", "more"}, tables.OpeningOther, 0},
		{"a byte", []string{"\x16"}, tables.OpeningOther, 0},
		{"PROXY 1 and a request", []string{proxyV1 + get}, tables.OpeningPROXY, 1},
		{"PROXY 1, then a request", []string{proxyV1, get}, tables.OpeningPROXY, 1},
		{"PROXY 1 alone", []string{proxyV1}, tables.OpeningPROXY, 0},
		{"PROXY 1 without an end", []string{"PROXY " + strings.Repeat("x", 120), "y"}, tables.OpeningOther, 0},
		{"PROXY 2 and a request", []string{proxyV2 + get}, tables.OpeningPROXY, 1},
		{"PROXY 2, then a request", []string{proxyV2, get}, tables.OpeningPROXY, 1},
		{"PROXY 2 in two segments", []string{proxyV2[:20], proxyV2[20:] + get}, tables.OpeningPROXY, 1},
		{"nearly PROXY 2", []string{strings.Replace(proxyV2, "QUIT", "QUIZ", 1)}, tables.OpeningOther, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			everywhere(t, tables.PolicySettings{}, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
				c.open()
				for _, s := range tc.segments {
					c.send(psh|ack, s)
				}
				var want [tables.Openings]uint64
				if tc.opening >= 0 {
					want[tc.opening] = 1
				}
				got := c.r.d.Totals(1)
				if counts, admitted := c.r.d.Openings(1); counts != want || admitted != tc.requests {
					t.Errorf("alone: openings %v, %d requests; expected %v, %d", counts, admitted, want, tc.requests)
				}
				if got.Openings != want || got.Admitted != tc.requests {
					t.Errorf("openings %v, %d requests; expected %v, %d", got.Openings, got.Admitted, want, tc.requests)
				}
			})
		})
	}
}

// Behind a PROXY header a rejected request is answered like any other.
func TestAnswerBehindPROXY(t *testing.T) {
	for name, header := range map[string]string{"1": proxyV1, "2": proxyV2} {
		t.Run("new/"+name, func(t *testing.T) {
			wherever(t, tables.PolicySettings{}, openFor(time.Minute), func(t *testing.T, c *conn) {
				c.answeredSYN("open")
				res := c.send(psh|ack, header+get)
				c.did(res, c.answers, c.hookOut+" respond open")
				c.isAnswer(res.segment, c.ack, c.seq, nil, unavailable, "open", "not now: open")
			})
		})
		t.Run("open/"+name, func(t *testing.T) {
			everywhere(t, tables.PolicySettings{Existing: true}, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
				c.open()
				c.passed(c.send(psh|ack, header), c.hookOut, "flow")
				c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.ForcedOpen, Generation: 2})
				res := c.send(psh|ack, get)
				c.did(res, c.answers, c.hookOut+" respond forced-open")
				c.isAnswer(res.segment, c.ack, c.seq, nil, unavailable, "forced-open", "not now: forced-open")
			})
		})
	}
	t.Run("alone", func(t *testing.T) {
		wherever(t, tables.PolicySettings{}, openFor(time.Minute), func(t *testing.T, c *conn) {
			c.answeredSYN("open")
			c.did(c.send(psh|ack, proxyV1), c.answers, c.hookOut+" reset open")
		})
	})
}
