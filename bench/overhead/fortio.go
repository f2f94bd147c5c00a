package overhead

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"time"

	"github.com/cbagent/cbagent/bench/part"
)

// fortioResult is what is read of fortio's own result.
type fortioResult struct {
	ActualQPS         float64
	DurationHistogram struct {
		Count       int
		Percentiles []struct{ Percentile, Value float64 } // seconds
	}
	RetCodes map[string]int
}

// fortio sends requests on 16 kept connections, as fast as it can.
func (p place) fortio(ctx context.Context, r *part.Run, length time.Duration) (map[string]float64, error) {
	cmd := exec.CommandContext(ctx, r.Bench.Tool("fortio"), "load", "-c", "16", "-qps", "0", "-t", length.String(),
		"-p", "50,99", "-quiet", "-json", "-", fmt.Sprintf("http://%s/", p.Target))
	out, err := p.site.Output(p.site.Client, cmd)
	if err != nil {
		return nil, err
	}
	var got fortioResult
	if err := json.Unmarshal(out, &got); err != nil {
		return nil, fmt.Errorf("read fortio's result: %w", err)
	}
	n := got.DurationHistogram.Count
	if n == 0 || got.RetCodes["200"] != n {
		return nil, fmt.Errorf("of %d requests %v were answered: all must be 200", n, got.RetCodes)
	}
	values := map[string]float64{"requests": float64(n), "rate_rps": got.ActualQPS}
	for _, q := range got.DurationHistogram.Percentiles {
		values[fmt.Sprintf("p%g_us", q.Percentile)] = q.Value * 1e6
	}
	return values, nil
}
