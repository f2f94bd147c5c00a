package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// crowdSize is how many circuits open at once in a crowd.
const crowdSize = 400

// crowdLease is the lease of a crowd's agent: short, so that an event loop that stands still is soon seen. Tests of crowds are
// not parallel: with others beside them the agent could lose it innocently.
const crowdLease = time.Second

// crowd is an agent with many backends that all refuse connections: ports of one address at which nobody listens.
type crowd struct {
	*netlab.Star
	t       *testing.T
	policy  string
	targets []netip.AddrPort
	socket  string
	flags   []string // of its agent
}

func newCrowd(t *testing.T) *crowd {
	t.Helper()
	c := &crowd{Star: newStar(t, netlab.Options{Backends: 1}), t: t, socket: filepath.Join(t.TempDir(), "cb.sock")}
	for i := range crowdSize {
		c.targets = append(c.targets, netip.AddrPortFrom(c.Backends[0].IPv4, uint16(20000+i)))
	}
	c.policy = policyOf(c.targets, "trip: [{consecutiveFailures: 1}]", "open: {duration: 5m, max: 5m}")
	c.flags = []string{"--lease", crowdLease.String(), "--control-socket", c.socket}
	return c
}

// control returns a client of the agent's.
func (c *crowd) control() *control.Client {
	client := control.NewClient(c.socket)
	c.t.Cleanup(client.Close)
	return client
}

// fail opens all circuits: one refused connection each.
func (c *crowd) fail() {
	c.t.Helper()
	ctx := soon(c.t)
	var wg sync.WaitGroup
	queue := make(chan netip.AddrPort)
	for range 16 {
		wg.Go(func() {
			for at := range queue {
				if conn, err := c.Client.DialContext(ctx, "tcp", at.String()); err == nil {
					_ = conn.Close() // its circuit is open already
				}
			}
		})
	}
	for _, at := range c.targets {
		queue <- at
	}
	close(queue)
	wg.Wait()
	client := c.control()
	eventually(c.t, "all circuits open", func() bool {
		status, err := client.Status(ctx, "")
		return err == nil && len(status.Policies) == 1 && status.Policies[0].States["open"] == crowdSize
	})
}

// holds fails the test unless all clients get the kernel's answers, and the agent says that it is well, for several leases.
func (c *crowd) holds() {
	c.t.Helper()
	began := time.Now()
	stop := background(c.t, loadgen.Load{Dial: c.Client.DialContext, Targets: c.targets, Workers: 1, Rate: 1, Every: 1, Timeout: 5 * time.Second})
	health := c.Node.HTTPClient()
	defer health.CloseIdleConnections()
	health.Timeout = 2 * time.Second
	for n := 0; time.Since(began) < 3*crowdLease; n++ {
		resp, err := health.Get("http://127.0.0.1:9464/healthz")
		if err != nil {
			c.t.Fatalf("look %d at the agent's health: %v", n, err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			c.t.Fatalf("look %d: the agent's health is %s", n, resp.Status)
		}
		wantAnswer(c.t, call(c.t, client(c.t, c.Client, c.targets[n%crowdSize])), "open")
	}
	got := stop()
	if got.Requests < crowdSize || got.FromKernel["open"] != got.Requests {
		c.t.Errorf("clients got %v, %v by the kernel; want nothing but the kernel's answer, %d at least", got.ByOutcome, got.FromKernel, crowdSize)
	}
}

// lost returns how many records a sink has missed.
func (c *crowd) lost(sink string) float64 {
	c.t.Helper()
	n, _ := metric(c.t, c.Node, "cbagent_records_lost_total", fmt.Sprintf("sink=%q", sink))
	return n
}

// order has the agent do something to the policy or one of its backends by hand.
func (c *crowd) order(action, target string) control.Overridden {
	c.t.Helper()
	// What clients of the socket wait for an answer.
	ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
	defer cancel()
	done, err := c.control().Override(ctx, control.Override{Action: action, Target: target, Reason: "a test"})
	if err != nil {
		c.t.Fatalf("%s %s: %v", action, target, err)
	}
	return done
}

// problem returns what the agent says of its state file.
func (c *crowd) problem() string {
	c.t.Helper()
	status, err := c.control().Status(soon(c.t), "")
	if err != nil {
		c.t.Fatal(err)
	}
	return status.Agent.StateError
}

// wantWarning fails the test unless an order was carried out with a warning that it could not be saved.
func (c *crowd) wantWarning(done control.Overridden, why string) {
	c.t.Helper()
	if len(done.Changes) == 0 || !strings.Contains(done.Warning, "not saved") || !strings.Contains(done.Warning, why) {
		c.t.Errorf("%d changes, with the warning %q; want one that says %q", len(done.Changes), done.Warning, why)
	}
}
