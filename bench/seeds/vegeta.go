package seeds

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cbagent/cbagent/bench/part"
	"github.com/cbagent/cbagent/bench/peer"
	"github.com/cbagent/cbagent/bench/row"
)

// The backend of vegeta's scenario: it can serve 800 requests a second.
const (
	poolOf   = 8
	workTime = 10 * time.Millisecond
)

// pool serves so many requests at once; the others wait, as long as it takes.
func pool() http.Handler {
	workers := make(chan struct{}, poolOf)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case workers <- struct{}{}:
		case <-r.Context().Done():
			return
		}
		time.Sleep(workTime)
		<-workers
		w.WriteHeader(http.StatusOK)
	})
}

// runVegeta sends 1,000 requests a second, a quarter more than can be served.
func runVegeta(ctx context.Context, r *part.Run) error {
	places, closeAll, err := open(r, []contestant{
		{"direct", peer.Direct, peer.Settings{}},
		// It has no queue but the backend's own. Half as many as HAProxy lets in, served and waiting, are enough to keep the
		// workers busy.
		{"cbagent", peer.Cbagent, limited(40)},
		{"haproxy", peer.HAProxy, bounded(16, 64)},
		{"gobreaker", peer.Gobreaker, library()},
		{"failsafe-go", peer.Failsafe, library()},
	}, pool)
	defer closeAll()
	if err != nil {
		return err
	}
	length := "10s"
	if r.Quick {
		length = "3s"
	}
	// Half as many rounds: a round takes a minute.
	for round := range (r.Rounds + 1) / 2 {
		for _, p := range part.Turn(places, round) {
			values, err := p.vegeta(ctx, r, length)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			r.Add("vegeta", p.name, round, values)
		}
	}
	return nil
}

// vegeta runs it once.
func (p place) vegeta(ctx context.Context, r *part.Run, length string) (map[string]float64, error) {
	folder, err := os.MkdirTemp("", "cbagent-vegeta-")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(folder) }()
	results := filepath.Join(folder, "results")
	attack := exec.CommandContext(ctx, r.Bench.Tool("vegeta"), "attack", "-rate", "1000/s", "-duration", length,
		"-timeout", "5s", "-max-workers", "5000", "-output", results)
	attack.Stdin = strings.NewReader(fmt.Sprintf("GET http://%s/\n", p.Target))
	if _, err := p.site.Output(p.site.Client, attack); err != nil {
		return nil, err
	}
	out, err := p.site.Output(p.site.Client, exec.CommandContext(ctx, r.Bench.Tool("vegeta"), "encode", "-to", "csv", results))
	if err != nil {
		return nil, err
	}
	return readVegeta(out)
}

// readVegeta reads vegeta's CSV: time, status, latency in ns, and more.
func readVegeta(text []byte) (map[string]float64, error) {
	rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read vegeta's results: %w", err)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("vegeta sent nothing")
	}
	var all, good []float64
	by := map[string]float64{}
	for _, row := range rows {
		ns, err := strconv.ParseFloat(row[2], 64)
		if err != nil {
			return nil, fmt.Errorf("read vegeta's results: %w", err)
		}
		ms := ns / 1e6
		all = append(all, ms)
		by[row[1]]++
		if row[1] == "200" {
			good = append(good, ms)
		}
	}
	n := float64(len(all))
	return map[string]float64{
		"requests": n, "share_200": by["200"] / n, "share_503": by["503"] / n,
		"p50_ms": row.Percentile(all, 50), "p99_ms": row.Percentile(all, 99),
		"p50_200_ms": row.Percentile(append(good, 0), 50), "p99_200_ms": row.Percentile(append(good, 0), 99),
	}, nil
}
