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

// fortio is a load by fortio, as fast as it can, on connections that it keeps.
type fortio struct {
	name   string   // of the case
	flags  []string // how many connections, and of what
	target string   // %s is the address
	ok     string   // how it counts a success
}

func (p place) fortio(ctx context.Context, r *part.Run, f fortio, length time.Duration) (map[string]float64, error) {
	command := append([]string{"load", "-qps", "0", "-t", length.String(), "-p", "50,99", "-quiet", "-json", "-"}, f.flags...)
	cmd := exec.CommandContext(ctx, r.Bench.Tool("fortio"), append(command, fmt.Sprintf(f.target, p.Target))...)
	out, err := p.site.Output(p.site.Client, cmd)
	if err != nil {
		return nil, err
	}
	var got fortioResult
	if err := json.Unmarshal(out, &got); err != nil {
		return nil, fmt.Errorf("read fortio's result: %w", err)
	}
	n := got.DurationHistogram.Count
	if n == 0 || got.RetCodes[f.ok] != n {
		return nil, fmt.Errorf("of %d requests %v were answered: all must be %s", n, got.RetCodes, f.ok)
	}
	values := map[string]float64{"requests": float64(n), "rate_rps": got.ActualQPS}
	for _, q := range got.DurationHistogram.Percentiles {
		values[fmt.Sprintf("p%g_us", q.Percentile)] = q.Value * 1e6
	}
	return values, nil
}
