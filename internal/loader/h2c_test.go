package loader

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"

func upgradeTo(protocol string) string {
	return "GET / HTTP/1.1\r\nHost: orders\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n" +
		"Upgrade: " + protocol + "\r\n\r\n"
}

// A request that upgrades its connection to HTTP/2 is answered on the first stream.
func TestUpgradeToHTTP2(t *testing.T) {
	preface := func(h *h2) {
		must(h.client.framer.WriteSettings())
		h.toBackend(http2.ClientPreface + h.client.take())
	}
	cases := []struct {
		name string
		play func(h *h2)
		want want
	}{
		{"the response follows", func(h *h2) {
			must(h.backend.framer.WriteSettings())
			h.toClient(switching + h.backend.headers(1, false, ":status", "503").data(1, true, "no").take())
			preface(h)
			h.asks(h.client.get(3))
			h.answers(h.backend.headers(3, true, ":status", "200"))
			h.end()
		}, outcomes(2, 2, 1, "5xx", "2xx")},
		{"the response comes after the preface", func(h *h2) {
			h.toClient(switching)
			must(h.client.framer.WriteSettings())
			h.toBackend(http2.ClientPreface + h.client.get(3).take())
			must(h.backend.framer.WriteSettings())
			h.answers(h.backend.headers(3, true, ":status", "404").headers(1, true, ":status", "200"))
			h.end()
		}, outcomes(2, 2, 0, "4xx", "2xx")},
		{"after an interim response", func(h *h2) {
			must(h.backend.framer.WriteSettings())
			h.toClient(proceed + switching + h.backend.headers(1, true, ":status", "502").take())
			preface(h)
			h.end()
		}, outcomes(1, 1, 1, "5xx")},
		{"there is no response", func(h *h2) {
			h.toClient(switching)
			preface(h)
			h.waited(timeout)
			h.sweep()
			h.end()
		}, outcomes(1, 1, 1, "timeout")},
		{"the backend closes", func(h *h2) {
			h.toClient(switching)
			preface(h)
			h.backendFIN()
			h.clientFIN()
			h.sweep()
		}, outcomes(1, 1, 1, "reset")},
		{"the client cancels", func(h *h2) {
			h.toClient(switching)
			must(h.client.framer.WriteSettings())
			h.toBackend(http2.ClientPreface + h.client.reset(1, http2.ErrCodeCancel).take())
			h.end()
		}, outcomes(1, 0, 0, "aborted")},
		{"the backend does not upgrade", func(h *h2) {
			h.toClient(failed)
			h.passed(h.send(psh|ack, get), h.hookOut, "admitted")
			h.toClient(ok)
			h.clientFIN()
			h.backendFIN()
			h.passed(h.send(ack, ""), h.hookOut, "untracked")
		}, outcomes(2, 2, 1, "5xx", "2xx")},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			everywhere(t, http2Policy(), ledger.Verdict{}, func(t *testing.T, c *conn) {
				h := &h2{conn: c.open(), client: newPeer(), backend: newPeer(), carry: whole}
				h.ask(upgradeTo("h2c"))
				tc.play(h)
				h.r.wantTotals(tc.want)
				h.r.forgotten()
			})
			for _, carry := range carriages {
				if carry.name == "reversed" || carry.name == "swapped" {
					continue // what comes ahead of a gap before the first frame is not kept
				}
				t.Run(carry.name, func(t *testing.T) {
					at(t, places[:1], http2Policy(), ledger.Verdict{}, func(t *testing.T, c *conn) {
						h := &h2{conn: c.open(), client: newPeer(), backend: newPeer(), carry: carry.cut}
						h.ask(strings.ReplaceAll(upgradeTo("h2c"), ": ", ":"))
						tc.play(h)
						h.r.wantTotals(tc.want)
						h.r.forgotten()
					})
				})
			}
		})
	}
}

// A probe that upgrades its connection keeps its permit for the first stream.
func TestProbeUpgradesToHTTP2(t *testing.T) {
	everywhere(t, http2Policy(), halfOpen(1, 1), func(t *testing.T, c *conn) {
		c.connect("probe")
		h := &h2{conn: c, client: newPeer(), backend: newPeer(), carry: whole}
		h.passed(h.send(psh|ack, upgradeTo("h2c")), h.hookOut, "probe")
		h.toClient(switching)
		if p := h.r.d.Progress(1); p.InFlight != 1 {
			t.Errorf("%d permits are in flight", p.InFlight)
		}
		must(h.backend.framer.WriteSettings())
		h.answers(h.backend.headers(1, true, ":status", "200"))
		if p := h.r.d.Progress(1); p.InFlight != 0 || p.Judged != 1 {
			t.Errorf("%d permits are in flight, %d outcomes judged", p.InFlight, p.Judged)
		}
		h.end()
		h.r.forgotten()
	})
}

// Other upgrades begin a tunnel, whose 101 is the outcome.
func TestUpgradeToAnotherProtocol(t *testing.T) {
	for _, protocol := range []string{"websocket", "h2cc", "TLS/1.2", "h2c, websocket"} {
		at(t, places[:1], http2Policy(), ledger.Verdict{}, func(t *testing.T, c *conn) {
			h := &h2{conn: c.open(), client: newPeer(), backend: newPeer(), carry: whole}
			h.ask(upgradeTo(protocol))
			h.toClient("HTTP/1.1 101 Switching Protocols\r\n")
			h.r.wantTotals(withConnection(outcomes(1, 1, 0, "1xx")))
			h.toClient("\r\n")
			h.passed(h.send(psh|ack, get), h.hookOut, "flow")
			h.passed(h.send(fin|ack, ""), h.hookOut, "flow")
			h.passed(h.recv(fin|ack, ""), h.hookIn, "flow")
			h.r.sweepAt(tables.Now(), time.Minute)
			h.r.wantTotals(outcomes(1, 1, 0, "1xx"))
			h.r.forgotten()
		})
	}
}
