package scale

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// metrics is where an agent serves its metrics when nothing else is said, in its own network namespace.
const metrics = "http://127.0.0.1:9464/metrics"

// scrape reads the metrics as Prometheus does, three times, and returns the shortest time and the size.
func (p place) scrape(ctx context.Context) (took time.Duration, size int64, err error) {
	client := p.site.Node.HTTPClient()
	client.Timeout = time.Minute
	defer client.CloseIdleConnections()
	for i := range 3 {
		began := time.Now()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, metrics, nil)
		if err != nil {
			return 0, 0, fmt.Errorf("scrape: %w", err)
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, 0, fmt.Errorf("scrape: %w", err)
		}
		size, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			return 0, 0, fmt.Errorf("scrape: status %d: %w", resp.StatusCode, err)
		}
		if one := time.Since(began); i == 0 || one < took {
			took = one
		}
	}
	return took, size, nil
}
