package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// h2c is Go's client of HTTP/2 in clear text, with one connection.
type h2c struct {
	client *http.Client
	url    string
}

func newH2C(t *testing.T, in *netlab.Namespace, target netip.AddrPort) *h2c {
	t.Helper()
	transport := &http.Transport{DialContext: in.DialContext, Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &h2c{client: &http.Client{Transport: transport, Timeout: patience}, url: fmt.Sprintf("http://%s/", target)}
}

// call sends a request: a GET, or a POST of so many bytes.
func (c *h2c) call(ctx context.Context, method string, size int) (status int, reason, body string, err error) {
	var upload io.Reader
	if size > 0 {
		upload = bytes.NewReader(testserver.FakeTraffic(size))
	}
	request, err := http.NewRequestWithContext(ctx, method, c.url, upload)
	if err != nil {
		return 0, "", "", err
	}
	response, err := c.client.Do(request)
	if err != nil {
		return 0, "", "", err
	}
	defer func() { _ = response.Body.Close() }() // read to its end
	got, err := io.ReadAll(response.Body)
	if err == nil && response.ProtoMajor != 2 {
		err = fmt.Errorf("answered in %s", response.Proto)
	}
	return response.StatusCode, response.Header.Get("X-Cbagent-Reason"), string(got), err
}

// rejections sends calls, so many at once, and returns how often each result came and how long the slowest call took.
func (c *h2c) rejections(ctx context.Context, calls, atOnce int, method string, size int) (results map[string]int, slowest time.Duration) {
	results = map[string]int{}
	var mu sync.Mutex
	var workers sync.WaitGroup
	next := make(chan struct{}, calls)
	for range calls {
		next <- struct{}{}
	}
	close(next)
	for range atOnce {
		workers.Go(func() {
			for range next {
				began := time.Now()
				status, reason, body, err := c.call(ctx, method, size)
				took := time.Since(began)
				mu.Lock()
				results[fmt.Sprintf("%d %s %s %v", status, reason, body, err)]++
				slowest = max(slowest, took)
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return results, slowest
}

// rejected fails the test unless all calls got the kernel's answer.
func (c *h2c) rejected(t *testing.T, calls, atOnce int, method string, size int) (slowest time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	body := defaultBody("open")
	if method == http.MethodHead {
		body = ""
	}
	want := map[string]int{fmt.Sprintf("503 open %s <nil>", body): calls}
	got, slowest := c.rejections(ctx, calls, atOnce, method, size)
	if !maps.Equal(got, want) {
		t.Errorf("%d calls %s of %d bytes, %d at once: %v, want %v", calls, method, size, atOnce, got, want)
	}
	return slowest
}

// TestHTTP2ClientsOfAnOpenCircuit: all calls get the kernel's answer, on one connection each, and at once.
func TestHTTP2ClientsOfAnOpenCircuit(t *testing.T) {
	t.Parallel()
	everyPlace := map[string]func(*testing.T) place{
		"IPv4": places["IPv4"], "IPv6": places["IPv6"], "DNAT and masquerade": places["DNAT and masquerade"], "lo": places["lo"],
		"lo IPv6": places["lo IPv6"], "VXLAN": places["VXLAN"], "TUN offload": places["TUN offload"], "QinQ pods": places["QinQ pods"],
		"host process": places["host process"], "no offloads": places["no offloads"], "inbound": inboundPlaces["pod"],
		"inbound to the node IPv6": inboundPlaces["node IPv6"], "VIP": vipPlaces["VIP"],
		"VIP, masqueraded IPv6": vipPlaces["VIP, masqueraded IPv6"], "firewall": places["firewall"],
	}
	for name, newPlace := range everyPlace {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, append(p.policy, threeFailures...)...), p.interfaces)
			failing := client(t, p.client, p.backend)
			openCircuit(t, agent, p.server, failing)
			failing.Close()
			before := p.server.Counts()
			rejections := 0
			for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
				for _, atOnce := range []int{1, 16} {
					size, calls := 0, 1000
					if method == http.MethodPost {
						size = 100_000
					}
					c := newH2C(t, p.client, p.dial)
					slowest := c.rejected(t, calls, atOnce, method, size)
					t.Logf("%s, %d at once: the slowest took %s", method, atOnce, slowest)
					if slowest > time.Second {
						t.Errorf("%s, %d at once: the slowest took %s", method, atOnce, slowest)
					}
					rejections += calls
				}
			}
			if got := p.server.Counts().Sub(before); got.Requests != 0 || got.Connections != 0 {
				t.Errorf("the backend saw %+v", got)
			}
			wantMetric(t, p, float64(rejections), "cbagent_rejected_total", `reason="open"`, `answer="respond"`)
		})
	}
}

// burst writes so many requests at once, and reads the kernel's answers to all of them.
func burst(t *testing.T, in *netlab.Namespace, target netip.AddrPort, requests int) (took time.Duration) {
	t.Helper()
	c, err := in.DialContext(soon(t), "tcp", target.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }() // read to its end
	var out, block bytes.Buffer
	framer, encoder := http2.NewFramer(&out, c), hpack.NewEncoder(&block)
	out.WriteString(http2.ClientPreface)
	write := framer.WriteSettings()
	for i := range requests {
		block.Reset()
		for _, f := range []hpack.HeaderField{
			{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "x"}, {Name: ":path", Value: "/"},
		} {
			write = errors.Join(write, encoder.WriteField(f))
		}
		write = errors.Join(write, framer.WriteHeaders(http2.HeadersFrameParam{
			StreamID: uint32(2*i + 1), BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true,
		}))
	}
	began := time.Now()
	_, err = c.Write(out.Bytes())
	if err := errors.Join(write, err, c.SetDeadline(began.Add(patience))); err != nil {
		t.Fatal(err)
	}
	for answered := 0; answered < requests; {
		f, err := framer.ReadFrame()
		if err != nil {
			t.Fatalf("after %d answers: %v", answered, err)
		}
		if d, ok := f.(*http2.DataFrame); ok && d.StreamEnded() && string(d.Data()) == defaultBody("open") &&
			d.StreamID == uint32(2*answered+1) {
			answered++
		} else if ok {
			t.Fatalf("after %d answers: %v %q", answered, d, d.Data())
		}
	}
	return time.Since(began)
}

// TestHTTP2ManyRequestsAtOnce: answers that take several segments arrive whole wherever the kernel sends them.
func TestHTTP2ManyRequestsAtOnce(t *testing.T) {
	t.Parallel()
	all := map[string]func(*testing.T) place{
		"IPv4": places["IPv4"], "IPv6": places["IPv6"], "DNAT and masquerade": places["DNAT and masquerade"], "lo": places["lo"],
		"VXLAN": places["VXLAN"], "TUN": places["TUN"], "TUN offload": places["TUN offload"], "QinQ pods": places["QinQ pods"],
		"bridge": places["bridge"], "inbound": inboundPlaces["pod"], "inbound to the node": inboundPlaces["node"],
		"VIP": vipPlaces["VIP"], "VIP, masqueraded IPv6": vipPlaces["VIP, masqueraded IPv6"], "no offloads": places["no offloads"],
	}
	for name, newPlace := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, append(p.policy, threeFailures...)...), p.interfaces)
			failing := client(t, p.client, p.backend)
			openCircuit(t, agent, p.server, failing)
			failing.Close()
			for _, requests := range []int{1, 12, 51, 200} {
				t.Logf("%d requests: %s", requests, burst(t, p.client, p.dial, requests))
			}
		})
	}
}

// TestHTTP2OverABadNetwork: lost, reordered and duplicated packets change no answer.
func TestHTTP2OverABadNetwork(t *testing.T) {
	t.Parallel()
	for name, i := range map[string]netlab.Impairment{"reordered": {Reorder: 0.2}, "lost": {}, "duplicated": {Duplicate: 0.2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := relayPlace(t)
			agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, threeFailures...), p.interfaces)
			openCircuit(t, agent, p.server, client(t, p.client, p.dial))
			before := p.server.Counts()
			impaired := impair(t, i, p.clients)
			if name == "lost" {
				loseSome(p.clients, 0.05)
			}
			var clients sync.WaitGroup
			for n := range 8 {
				method, size := http.MethodGet, 0
				if n%2 == 1 {
					method, size = http.MethodPost, 36_000
				}
				c := newH2C(t, p.client, p.dial)
				clients.Go(func() { c.rejected(t, 60, 1+n, method, size) })
			}
			clients.Wait()
			impaired()
			if lost := p.clients.Forward.Counts().Lost + p.clients.Backward.Counts().Lost; name == "lost" && lost < 50 {
				t.Errorf("%d packets were lost", lost)
			}
			if got := p.server.Counts().Sub(before); got.Requests != 0 || got.Connections != 0 {
				t.Errorf("the backend saw %+v", got)
			}
		})
	}
}

// TestHTTP2AfterHealing: when the circuit admits again, the next call goes to the backend, on a new connection. No call fails in
// between.
func TestHTTP2AfterHealing(t *testing.T) {
	t.Parallel()
	for name, newPlace := range map[string]func(*testing.T) place{"IPv4": places["IPv4"], "inbound": inboundPlaces["pod"], "lo": places["lo"]} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, append(p.policy, "trip: [{consecutiveFailures: 3}]",
				"open: {duration: 2s}", "halfOpen: {calls: 0}")...), p.interfaces)
			opened := openCircuit(t, agent, p.server, client(t, p.client, p.backend))
			p.server.Set(testserver.Behaviour{})
			c := newH2C(t, p.client, p.dial)
			var statuses []int
			eventually(t, "ten responses of the backend", func() bool {
				status, _, _, err := c.call(soon(t), http.MethodGet, 0)
				if err != nil {
					t.Fatalf("after %v: %v", statuses, err)
				}
				statuses = append(statuses, status)
				return len(statuses) > 10 && slices.Max(statuses[len(statuses)-10:]) == 200
			})
			if statuses[0] != 503 {
				t.Errorf("the first response was %d", statuses[0])
			}
			if _, err := agent.Await(soon(t), p.backend.String(), "closed", opened.At); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestHTTP2AfterTheAgentWasKilled: without a lease the programs admit.
func TestHTTP2AfterTheAgentWasKilled(t *testing.T) {
	t.Parallel()
	p := places["IPv4"](t)
	agent := newLineage(t, p.node, policyOf([]netip.AddrPort{p.backend}, threeFailures...), "--lease", "8s").start()
	openCircuit(t, agent, p.server, client(t, p.client, p.backend))
	p.server.Set(testserver.Behaviour{})
	c := newH2C(t, p.client, p.dial)
	c.rejected(t, 10, 1, http.MethodGet, 0)
	agent.Kill()
	c.rejected(t, 1, 1, http.MethodGet, 0)
	eventually(t, "a response of the backend", func() bool {
		status, _, _, err := c.call(soon(t), http.MethodGet, 0)
		if err != nil {
			t.Fatal(err)
		}
		return status == 200
	})
}
