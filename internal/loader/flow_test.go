package loader

import (
	"strings"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// outcomes is what a case expects of a circuit on which all is over.
func outcomes(admitted uint64, judged, failures uint64, classes ...string) want {
	w := want{Admitted: admitted, Judged: judged, Failures: failures, Outcomes: map[string]uint64{}}
	for _, c := range classes {
		w.Outcomes[c]++
	}
	w.Unjudged = uint64(len(classes)) - judged
	if len(classes) == 0 {
		w.Outcomes = nil
	}
	return w
}

// end closes the connection from the client's side, properly.
func (c *conn) end() {
	c.r.t.Helper()
	c.passed(c.send(fin|ack, ""), c.hookOut, "flow")
	c.passed(c.recv(fin|ack, ""), c.hookIn, "flow")
	c.passed(c.send(ack, ""), c.hookOut, "untracked")
}

// outcomeCase is what happens on one connection, and what is counted once it is over.
type outcomeCase struct {
	name string
	run  func(c *conn)
	want want
}

// checkOutcomes runs each case at each place. Afterwards no connection is followed any more.
func checkOutcomes(t *testing.T, s tables.PolicySettings, cases []outcomeCase) {
	t.Helper()
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			everywhere(t, s, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
				tc.run(c)
				c.r.wantTotals(tc.want)
				if n := c.r.d.NodeCounts().Flows; n != 0 {
					t.Errorf("%d connections are still followed", n)
				}
			})
		})
	}
}

func TestOutcomes(t *testing.T) {
	checkOutcomes(t, tables.PolicySettings{Existing: true}, []outcomeCase{
		{"nothing asked", func(c *conn) { c.open().end() }, outcomes(0, 0, 0)},
		{"each class", func(c *conn) {
			c.open()
			for _, status := range []string{"200", "201", "302", "404", "418", "500", "503", "600", "999"} {
				c.ask(get)
				c.answer("HTTP/1.1 " + status + " Whatever\r\n\r\n")
			}
			c.end()
		}, outcomes(9, 9, 2, "2xx", "2xx", "3xx", "4xx", "4xx", "5xx", "5xx", "6xx", "9xx")},
		{"HTTP/1.0, closed by the backend", func(c *conn) {
			c.open().ask("GET / HTTP/1.0\r\n\r\n")
			c.passed(c.recv(psh|ack|fin, "HTTP/1.0 200 OK\r\n\r\nhello"), c.hookIn, "flow")
			c.passed(c.send(fin|ack, ""), c.hookOut, "flow")
			c.passed(c.recv(ack, ""), c.hookIn, "untracked")
		}, outcomes(1, 1, 0, "2xx")},
		{"status line byte by byte", func(c *conn) {
			c.open().ask(get)
			for _, b := range strings.Split(failed, "") {
				c.answer(b)
			}
			c.end()
		}, outcomes(1, 1, 1, "5xx")},
		{"bodies that look like heads", func(c *conn) {
			c.open().ask("POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\n")
			c.passed(c.send(ack, get), c.hookOut, "flow")
			c.passed(c.send(ack, "GET "), c.hookOut, "flow")
			c.answer("HTTP/1.1 200 OK\r\n\r\n")
			c.answer("HTTP/1.1 500 Not a head\r\n\r\n")
			c.answer("HTTP/1.1 503 Nor this\r\n\r\n")
			c.end()
		}, outcomes(1, 1, 0, "2xx")},
		{"100 Continue in its own segment", func(c *conn) {
			c.open().ask("POST / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n")
			c.answer(proceed)
			c.passed(c.send(ack, "the body"), c.hookOut, "flow")
			c.answer(failed)
			c.end()
		}, outcomes(1, 1, 1, "5xx")},
		{"100, 102, 103 and 200 in one segment", func(c *conn) {
			c.open().ask(get)
			c.answer(proceed + "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok)
			c.end()
		}, outcomes(1, 1, 0, "2xx")},
		{"1xx heads cut anywhere", func(c *conn) {
			c.open()
			all := proceed + "HTTP/1.1 103 Early Hints\r\nLink: \r\r\n\r\n" + failed
			for n := 1; n < 20; n++ {
				c.ask(get)
				for i := 0; i < len(all); i += n {
					c.answer(all[i:min(i+n, len(all))])
				}
			}
			c.end()
		}, func() want {
			w := outcomes(19, 19, 19)
			w.Outcomes, w.Unjudged = map[string]uint64{"5xx": 19}, 0
			return w
		}()},
		{"1xx heads whose lines end in LF", func(c *conn) {
			c.open().ask(get)
			c.answer("HTTP/1.1 103 Early Hints\nLink: </a>\n\nHTTP/1.1 100 Continue\n\r\n" + failed)
			c.end()
		}, outcomes(1, 1, 1, "5xx")},
		{"a response of which something comes too late", func(c *conn) {
			c.open().ask(get)
			// The client has the rest already, ahead of a gap, and gets what was missing.
			c.passed(c.recvAt(c.ack+uint32(len(proceed)), psh|ack, failed), c.hookIn, "flow")
			c.answer(proceed)
			c.ack += uint32(len(failed))
			c.passed(c.send(ack, ""), c.hookOut, "flow")
			c.r.wantTotals(want{Connections: 1, Admitted: 1, Unjudged: 1, Outcomes: map[string]uint64{"unknown": 1}})
			c.ask(get)
			c.answer(ok)
			c.end()
		}, outcomes(2, 1, 0, "unknown", "2xx")},
		{"101 begins a tunnel", func(c *conn) {
			c.open().ask("GET /chat HTTP/1.1\r\nUpgrade: websocket\r\n\r\n")
			c.answer("HTTP/1.1 101 Switching Protocols\r\n\r\n")
			c.passed(c.send(ack, get), c.hookOut, "flow")
			c.answer(failed)
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.ForcedOpen, Generation: 1})
			c.passed(c.send(ack, get), c.hookOut, "flow")
			c.r.d.SetVerdict(1, ledger.Verdict{Kind: ledger.Closed, Generation: 1})
			c.end()
		}, want{Admitted: 1, Outcomes: map[string]uint64{"1xx": 1}}}, // judged before the last verdict
		{"CONNECT begins a tunnel", func(c *conn) {
			c.open().ask("CONNECT example.com:443 HTTP/1.1\r\n\r\n")
			c.answer("HTTP/1.1 200 Connected\r\n\r\n")
			c.passed(c.send(ack, get), c.hookOut, "flow")
			c.answer(failed)
			c.end()
		}, outcomes(1, 1, 0, "2xx")},
		{"CONNECT refused", func(c *conn) {
			c.open().ask("CONNECT example.com:443 HTTP/1.1\r\n\r\n")
			c.answer("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
			c.ask(get)
			c.answer(ok)
			c.end()
		}, outcomes(2, 2, 0, "4xx", "2xx")},
		{"not HTTP", func(c *conn) {
			c.open().ask(get)
			c.answer("220 smtp.example.com ready\r\n")
			c.passed(c.send(ack, get), c.hookOut, "flow")
			c.end()
		}, outcomes(1, 0, 0, "unknown")},
		{"a status that is none", func(c *conn) {
			c.open().ask(get)
			c.answer("HTTP/1.1 099 Too small\r\n\r\n")
			c.end()
		}, outcomes(1, 0, 0, "unknown")},
		{"another protocol from the client", func(c *conn) {
			c.open()
			c.passed(c.send(psh|ack, "SSH-2.0-OpenSSH\r\n"), c.hookOut, "flow")
			c.passed(c.recv(psh|ack, "SSH-2.0-dropbear\r\n"), c.hookIn, "flow")
			c.end()
		}, outcomes(0, 0, 0)},
		{"request repeated", func(c *conn) {
			c.open()
			s := c.segment(psh|ack, get)
			c.ask(get)
			c.passed(c.put(c.out, s, c.ctx), c.hookOut, "flow")
			c.answer(ok)
			c.passed(c.put(c.out, s, c.ctx), c.hookOut, "flow")
			c.end()
		}, outcomes(1, 1, 0, "2xx")},
		{"request repeated together with what follows", func(c *conn) {
			c.open()
			s := c.segment(psh|ack, "POST / HTTP/1.1\r\n\r\nbody")
			c.ask("POST / HTTP/1.1\r\n\r\n")
			c.passed(c.put(c.out, s, c.ctx), c.hookOut, "flow")
			c.seq += 4
			c.answer(ok)
			c.end()
		}, outcomes(1, 1, 0, "2xx")},
		{"response repeated", func(c *conn) {
			c.open().ask(get)
			c.answer(ok)
			c.passed(c.recvAt(c.ack-uint32(len(ok)), psh|ack, ok), c.hookIn, "flow")
			c.ask(get)
			c.passed(c.recvAt(c.ack-uint32(len(ok)), psh|ack, ok), c.hookIn, "flow")
			c.answer(failed)
			c.end()
		}, outcomes(2, 2, 1, "2xx", "5xx")},
		{"response out of order", func(c *conn) {
			c.open().ask(get)
			c.passed(c.recvAt(c.ack+9, psh|ack, failed[9:]), c.hookIn, "flow")
			c.answer(failed[:9])
			c.answer(failed[9:])
			c.end()
		}, outcomes(1, 1, 1, "5xx")},
		{"response repeated with more", func(c *conn) {
			c.open().ask(get)
			c.passed(c.recvAt(c.ack, ack, failed[:5]), c.hookIn, "flow")
			c.answer(failed)
			c.end()
		}, outcomes(1, 1, 1, "5xx")},
		{"sequence numbers that wrap", func(c *conn) {
			c.seq = 0xfffffff0
			c.passed(c.send(syn, ""), c.hookOut, "admitted")
			c.ack = 0xfffffffa
			c.passed(c.recv(syn|ack, ""), c.hookIn, "flow")
			c.passed(c.send(ack, ""), c.hookOut, "flow")
			for range 3 {
				c.ask(get)
				c.answer(failed[:3])
				c.answer(failed[3:])
			}
			c.end()
		}, outcomes(3, 3, 3, "5xx", "5xx", "5xx")},
		{"refused", func(c *conn) {
			c.passed(c.send(syn, ""), c.hookOut, "admitted")
			c.passed(c.recvAt(0, rst|ack, ""), c.hookIn, "flow")
		}, outcomes(0, 1, 1, "connect-refused")},
		{"reset before the response", func(c *conn) {
			c.open().ask(get)
			c.passed(c.recv(rst|ack, ""), c.hookIn, "flow")
		}, outcomes(1, 1, 1, "reset")},
		{"reset in the status line", func(c *conn) {
			c.open().ask(get)
			c.answer("HTTP/1.1 20")
			c.passed(c.recv(rst, ""), c.hookIn, "flow")
		}, outcomes(1, 1, 1, "reset")},
		{"reset after the status line", func(c *conn) {
			c.open().ask(get)
			c.answer("HTTP/1.1 200 OK\r\n")
			c.passed(c.recv(rst, ""), c.hookIn, "flow")
		}, outcomes(1, 1, 0, "2xx")},
		{"reset with nothing pending", func(c *conn) {
			c.open()
			c.passed(c.recv(rst, ""), c.hookIn, "flow")
			c.passed(c.recv(rst, ""), c.hookIn, "untracked")
		}, outcomes(0, 0, 0)},
		{"closed by the backend before the response", func(c *conn) {
			c.open().ask(get)
			c.passed(c.recv(fin|ack, ""), c.hookIn, "flow")
			c.passed(c.send(fin|ack, ""), c.hookOut, "flow")
			c.passed(c.recv(ack, ""), c.hookIn, "untracked")
		}, outcomes(1, 1, 1, "reset")},
		{"closed by the backend after a 100", func(c *conn) {
			c.open().ask(get)
			c.passed(c.recv(psh|ack|fin, proceed), c.hookIn, "flow")
			c.passed(c.send(fin|ack, ""), c.hookOut, "flow")
		}, outcomes(1, 1, 1, "reset")},
		{"the backend's FIN overtakes its response", func(c *conn) {
			c.open().ask(get)
			c.passed(c.recvAt(c.ack+uint32(len(ok)), fin|ack, ""), c.hookIn, "flow")
			c.answer(ok)
			c.ack++
			c.passed(c.send(fin|ack, ""), c.hookOut, "flow")
		}, outcomes(1, 1, 0, "2xx")},
		{"half-closed by the client, and answered", func(c *conn) {
			c.open().ask(get)
			c.passed(c.send(fin|ack, ""), c.hookOut, "flow")
			c.answer(ok)
			c.passed(c.recv(fin|ack, ""), c.hookIn, "flow")
			c.passed(c.send(ack, ""), c.hookOut, "flow")
			c.passed(c.send(ack, ""), c.hookOut, "untracked")
		}, outcomes(1, 1, 0, "2xx")},
		{"half-closed with the request, and answered", func(c *conn) {
			c.open()
			c.passed(c.send(psh|ack|fin, get), c.hookOut, "admitted")
			c.answer(ok)
			c.passed(c.recv(fin|ack, ""), c.hookIn, "flow")
			c.passed(c.send(ack, ""), c.hookOut, "flow")
		}, outcomes(1, 1, 0, "2xx")},
		{"half-closed by the client, and answered, which it does not take", func(c *conn) {
			c.open().ask(get)
			c.passed(c.send(fin|ack, ""), c.hookOut, "flow")
			c.answer(ok)
			c.passed(c.send(rst, ""), c.hookOut, "flow")
		}, outcomes(1, 0, 0, "aborted")},
		{"half-closed by the client, and answered, and the backend resets", func(c *conn) {
			c.open().ask(get)
			c.passed(c.send(fin|ack, ""), c.hookOut, "flow")
			c.answer(failed)
			c.passed(c.recv(rst|ack, ""), c.hookIn, "flow")
		}, outcomes(1, 1, 1, "5xx")},
		{"half-closed by the client, and closed", func(c *conn) {
			c.open().ask(get)
			c.passed(c.send(fin|ack, ""), c.hookOut, "flow")
			c.passed(c.recv(fin|ack, ""), c.hookIn, "flow")
		}, outcomes(1, 0, 0, "aborted")},
		{"half-closed by the client, and reset", func(c *conn) {
			c.open().ask(get)
			c.passed(c.send(fin|ack, ""), c.hookOut, "flow")
			c.passed(c.recv(rst|ack, ""), c.hookIn, "flow")
		}, outcomes(1, 0, 0, "aborted")},
		{"reset by the client while it waits", func(c *conn) {
			c.open().ask(get)
			c.passed(c.send(rst|ack, ""), c.hookOut, "flow")
		}, outcomes(1, 0, 0, "aborted")},
		{"reset by the client in the status line", func(c *conn) {
			c.open().ask(get)
			c.answer("HTTP/1.1 5")
			c.passed(c.send(rst|ack, ""), c.hookOut, "flow")
		}, outcomes(1, 0, 0, "aborted")},
		{"reset by the client after the response", func(c *conn) {
			c.open().ask(get)
			c.answer(ok)
			c.passed(c.send(rst|ack, ""), c.hookOut, "flow")
		}, outcomes(1, 1, 0, "2xx")},
		{"given up while connecting", func(c *conn) {
			c.passed(c.send(syn, ""), c.hookOut, "admitted")
			c.passed(c.send(rst, ""), c.hookOut, "flow")
		}, outcomes(0, 0, 0, "unknown")},
		{"SYN repeated", func(c *conn) {
			s := c.segment(syn, "")
			c.passed(c.send(syn, ""), c.hookOut, "admitted")
			c.passed(c.put(c.out, s, c.ctx), c.hookOut, "flow")
			c.passed(c.put(c.out, s, c.ctx), c.hookOut, "flow")
			c.ack = 5000
			c.passed(c.recv(syn|ack, ""), c.hookIn, "flow")
			c.passed(c.recvAt(5000, syn|ack, ""), c.hookIn, "flow")
			c.ask(get)
			c.answer(ok)
			c.end()
		}, outcomes(1, 1, 0, "2xx")},
		{"ports used again", func(c *conn) {
			c.open().ask(get)
			c.seq += 1000000
			c.open().end()
		}, outcomes(1, 0, 0, "aborted")},
		{"a request with the handshake's last ACK", func(c *conn) {
			c.passed(c.send(syn, ""), c.hookOut, "admitted")
			c.ack = 5000
			c.passed(c.recv(syn|ack, ""), c.hookIn, "flow")
			c.ask(get)
			c.answer(ok)
			c.end()
		}, outcomes(1, 1, 0, "2xx")},
		{"a request in the SYN (TCP fast open)", func(c *conn) {
			c.passed(c.send(syn, get), c.hookOut, "admitted")
			c.ack = 5000
			c.passed(c.recv(syn|ack, ""), c.hookIn, "flow")
			c.passed(c.send(ack, ""), c.hookOut, "flow")
			c.answer(ok) // not followed: no hook saw the request
			c.ask(get)
			c.answer(failed)
			c.end()
		}, outcomes(1, 1, 1, "5xx")},
		{"pipelined requests count as one", func(c *conn) {
			c.open()
			c.ask(get + get)
			c.passed(c.send(psh|ack, get), c.hookOut, "flow")
			c.answer(ok)
			c.answer(failed)
			c.answer(ok)
			c.ask(get)
			c.answer(ok)
			c.end()
		}, outcomes(2, 2, 0, "2xx", "2xx")},
		{"a request in pieces", func(c *conn) {
			c.open()
			c.ask("G")
			c.passed(c.send(psh|ack, "ET / HT"), c.hookOut, "flow")
			c.passed(c.send(psh|ack, "TP/1.1\r\n\r\n"), c.hookOut, "flow")
			c.answer(ok)
			c.end()
		}, outcomes(1, 1, 0, "2xx")},
		{"a request that begins as HTTP/2 does", func(c *conn) {
			c.open()
			c.passed(c.send(psh|ack, "P"), c.hookOut, "flow")
			c.ask("OST / HT")
			c.passed(c.send(psh|ack, "TP/1.1\r\n\r\n"), c.hookOut, "flow")
			c.answer(ok)
			c.end()
		}, outcomes(1, 1, 0, "2xx")},
		{"a request after a lost one", func(c *conn) {
			// The hook sees what was lost further on: the repetition is old.
			c.open()
			s := c.segment(psh|ack, get)
			c.ask(get)
			c.passed(c.recvAt(c.ack, ack, ""), c.hookIn, "flow")
			c.passed(c.put(c.out, s, c.ctx), c.hookOut, "flow")
			c.answer(ok)
			c.end()
		}, outcomes(1, 1, 0, "2xx")},
		{"a gap before the hook, in a body", func(c *conn) {
			c.open().ask("POST / HTTP/1.1\r\n\r\n")
			c.answer(ok) // the backend was fast
			gap := c.segment(psh|ack, "body 1 body 1")
			c.seq += uint32(len(gap.payload))
			later := c.segment(psh|ack, get) // part of the body, in truth
			c.passed(c.put(c.out, later, c.ctx), c.hookOut, "flow")
			c.passed(c.put(c.out, gap, c.ctx), c.hookOut, "flow")
			c.seq += uint32(len(later.payload))
			c.passed(c.recv(ack, ""), c.hookIn, "flow")
			c.ask(get)
			c.answer(ok)
			c.end()
		}, outcomes(2, 2, 0, "2xx", "2xx")},
		{"a FIN that overtakes what comes before it", func(c *conn) {
			c.open().ask("POST / HTTP/1.1\r\n\r\n")
			c.answer(ok)
			first := c.segment(psh|ack, "body 1")
			c.seq += uint32(len(first.payload))
			c.passed(c.send(psh|ack|fin, "body 2"), c.hookOut, "flow")
			c.passed(c.put(c.out, first, c.ctx), c.hookOut, "flow")
			c.passed(c.recv(fin|ack, ""), c.hookIn, "flow")
		}, outcomes(1, 1, 0, "2xx")},
		{"joined midway", func(c *conn) {
			c.ack = 7000
			c.passed(c.send(ack, ""), c.hookOut, "untracked")
			c.ask(get)
			c.answer(ok)
			c.ask(get)
			c.answer(failed)
			c.end()
		}, outcomes(2, 2, 1, "2xx", "5xx")},
		{"joined in a response", func(c *conn) {
			c.ack = 7000
			c.passed(c.recv(ack, ok), c.hookIn, "untracked")
			c.ask(get)
			c.answer(ok)
			c.end()
		}, outcomes(1, 1, 0, "2xx")},
		{"the last ACK does not bring a connection back", func(c *conn) {
			c.open().ask(get)
			c.answer(ok)
			c.end()
			c.passed(c.send(fin|ack, ""), c.hookOut, "untracked")
			c.passed(c.send(rst, ""), c.hookOut, "untracked")
			c.passed(c.recv(rst, ""), c.hookIn, "untracked")
		}, outcomes(1, 1, 0, "2xx")},
		{"responses that go another way", func(c *conn) {
			c.passed(c.send(syn, ""), c.hookOut, "admitted")
			c.ack = 5001
			c.passed(c.send(ack, ""), c.hookOut, "flow")
			c.ask(get)
			c.passed(c.send(rst|ack, ""), c.hookOut, "flow")
		}, outcomes(1, 0, 0, "unknown")},
		{"data and FIN repeated together", func(c *conn) {
			c.open()
			s := c.segment(psh|ack|fin, get)
			c.ask(get)
			c.answer(ok)
			c.passed(c.put(c.out, s, c.ctx), c.hookOut, "flow")
			c.seq++
			c.passed(c.recv(fin|ack, ""), c.hookIn, "flow")
			c.passed(c.send(ack, ""), c.hookOut, "untracked")
		}, outcomes(1, 1, 0, "2xx")},
	})
}

// A status line may be cut at any place, by segments and by repetitions.
func TestStatusLineCutAnywhere(t *testing.T) {
	everywhere(t, tables.PolicySettings{}, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
		c.open()
		n := uint64(0)
		for i := range len(failed) {
			for j := i; j < len(failed); j += 5 {
				c.ask(get)
				c.answer(failed[:i])
				if j > i {
					c.answer(failed[i:j])
				}
				c.answer(failed[j:])
				n++
			}
		}
		c.r.wantTotals(want{Connections: 1, Admitted: n, Judged: n, Failures: n, Outcomes: map[string]uint64{"5xx": n}})
	})
}

func TestTCPOutcomes(t *testing.T) {
	checkOutcomes(t, tables.PolicySettings{Protocol: tables.TCP, Reject: tables.Reset}, []outcomeCase{
		{"connected", func(c *conn) {
			c.open()
			c.passed(c.send(psh|ack, get), c.hookOut, "flow")
			c.passed(c.recv(psh|ack, failed), c.hookIn, "flow")
			c.end()
		}, outcomes(1, 1, 0, "connected")},
		{"refused", func(c *conn) {
			c.passed(c.send(syn, ""), c.hookOut, "admitted")
			c.passed(c.recvAt(0, rst|ack, ""), c.hookIn, "flow")
		}, outcomes(1, 1, 1, "connect-refused")},
		{"reset later", func(c *conn) {
			c.open()
			c.passed(c.recv(rst|ack, ""), c.hookIn, "flow")
		}, outcomes(1, 1, 0, "connected")},
		{"SYN-ACK repeated", func(c *conn) {
			c.open()
			c.passed(c.recvAt(5000, syn|ack, ""), c.hookIn, "flow")
			c.end()
		}, outcomes(1, 1, 0, "connected")},
		{"SYN-ACK that went another way", func(c *conn) {
			c.passed(c.send(syn, ""), c.hookOut, "admitted")
			c.ack = 5001
			c.passed(c.send(ack, ""), c.hookOut, "flow")
			c.passed(c.send(rst|ack, ""), c.hookOut, "flow")
		}, outcomes(1, 1, 0, "connected")},
		{"given up while connecting", func(c *conn) {
			c.passed(c.send(syn, ""), c.hookOut, "admitted")
			c.passed(c.send(rst, ""), c.hookOut, "flow")
		}, outcomes(1, 0, 0, "unknown")},
	})
}

func TestSlowResponses(t *testing.T) {
	everywhere(t, tables.PolicySettings{Slow: time.Nanosecond}, ledger.Verdict{Kind: ledger.Closed}, func(t *testing.T, c *conn) {
		c.open().ask(get)
		c.answer(ok)
		c.r.wantTotals(want{Connections: 1, Admitted: 1, Judged: 1, Slow: 1, Outcomes: map[string]uint64{"2xx": 1}})
		events := c.r.events()
		if len(events) != 1 || !events[0].Slow || events[0].Failure || events[0].Result != 200 {
			t.Errorf("events %+v", events)
		}
	})
}
