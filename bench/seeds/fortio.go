package seeds

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strconv"

	"github.com/mccutchen/go-httpbin/v2/httpbin"

	"github.com/cbagent/cbagent/bench/part"
	"github.com/cbagent/cbagent/bench/peer"
)

// runFortio sends 20 requests as fast as 1 to 10 clients can.
func runFortio(ctx context.Context, r *part.Run) error {
	places, closeAll, err := open(r, []contestant{
		{"cbagent", peer.Cbagent, limited(2)},
		{"haproxy", peer.HAProxy, bounded(1, 1)},
	}, func() http.Handler { return httpbin.New() })
	defer closeAll()
	if err != nil {
		return err
	}
	for round := range r.Rounds {
		for clients := 1; clients <= 10; clients++ {
			if r.Quick && clients%3 != 1 {
				continue
			}
			for _, p := range part.Turn(places, round) {
				values, err := p.fortio(ctx, r, clients)
				if err != nil {
					return fmt.Errorf("%s, %d clients: %w", p.name, clients, err)
				}
				r.Add(fmt.Sprintf("fortio, %d clients", clients), p.name, round, values)
			}
		}
	}
	return nil
}

// fortioResult is what is read of fortio's own result.
type fortioResult struct {
	DurationHistogram struct {
		Count int
		Avg   float64 // seconds
	}
	RetCodes map[string]int
}

// fortio runs it once.
func (p place) fortio(ctx context.Context, r *part.Run, clients int) (map[string]float64, error) {
	cmd := exec.CommandContext(ctx, r.Bench.Tool("fortio"), "load", "-n", "20", "-qps", "0", "-c", strconv.Itoa(clients),
		"-quiet", "-json", "-", fmt.Sprintf("http://%s/delay/8ms", p.Target))
	out, err := p.site.Output(p.site.Client, cmd)
	if err != nil {
		return nil, err
	}
	var got fortioResult
	if err := json.Unmarshal(out, &got); err != nil {
		return nil, fmt.Errorf("read fortio's result: %w", err)
	}
	if got.DurationHistogram.Count == 0 {
		return nil, fmt.Errorf("fortio sent nothing")
	}
	n := float64(got.DurationHistogram.Count)
	return map[string]float64{
		"requests": n, "share_200": float64(got.RetCodes["200"]) / n, "share_503": float64(got.RetCodes["503"]) / n,
		"mean_ms": got.DurationHistogram.Avg * 1000,
	}, nil
}
