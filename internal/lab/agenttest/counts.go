package agenttest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// ringCounts are counters of the agent's event ring.
type ringCounts struct {
	lost      float64 // events that found the ring full
	recovered float64 // events that the agent took from the kernel's counters instead
}

// readCounts reads the counters from the agent's metrics. A crowded metrics address is tried again until ctx ends.
func readCounts(ctx context.Context, node *netlab.Namespace, address string) (c ringCounts, err error) {
	client := node.HTTPClient()
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return c, err
	}
	for {
		resp, err := client.Do(req)
		if err != nil {
			return c, err
		}
		if resp.StatusCode == http.StatusOK {
			c, err = parseCounts(resp.Body)
			_ = resp.Body.Close()
			return c, err
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable || ctx.Err() != nil {
			return c, fmt.Errorf("%s: %s", req.URL, resp.Status)
		}
	}
}

// parseCounts reads the counters from the text format of Prometheus. Both must be there.
func parseCounts(text io.Reader) (c ringCounts, err error) {
	missing := map[string]*float64{
		"cbagent_ring_events_lost_total": &c.lost, "cbagent_ring_events_recovered_total": &c.recovered,
	}
	lines := bufio.NewScanner(text)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if to := missing[name]; to != nil {
			if *to, err = strconv.ParseFloat(value, 64); err != nil {
				return c, fmt.Errorf("%s: %w", name, err)
			}
			delete(missing, name)
		}
	}
	if err := lines.Err(); err != nil {
		return c, err
	}
	for name := range missing {
		return c, fmt.Errorf("no series %s", name)
	}
	return c, nil
}
