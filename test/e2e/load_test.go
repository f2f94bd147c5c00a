package e2e

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/loadgen"
)

// hammer calls the backend from many clients with a connection for each request. The returned function waits for the
// given number of rejections for half-open, stops, and returns the number of answers of the kernel by reason.
func hammer(t *testing.T, p place, clients int) func(rejections int) map[string]int {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	var tally loadgen.Tally
	done := make(chan error, 1)
	go func() {
		done <- loadgen.Load{
			Dial: p.client.DialContext, Targets: []netip.AddrPort{p.dial}, Workers: clients, Every: 1,
			Timeout: time.Minute, Done: tally.Done,
		}.Run(ctx)
	}()
	return func(rejections int) map[string]int {
		t.Helper()
		eventually(t, "rejections", func() bool { return tally.Counts().FromKernel["half-open"] >= rejections })
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		return tally.Counts().FromKernel
	}
}
