package serve

import (
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxScrapes is how many scrapes are served at a time; others get status 503.
const maxScrapes = 4

// metricsHandler serves the families of a Gatherer. It logs families that cannot be gathered or encoded, and serves the others.
func metricsHandler(g prometheus.Gatherer, log *slog.Logger) http.Handler {
	h := promhttp.HandlerFor(g, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes,
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(mayBeGone{w}, r)
	})
}

// mayBeGone is the response to a client that may hang up before it has all of it. This is no error of the agent: without
// mayBeGone, promhttp logs it for each family that it still has to write.
type mayBeGone struct{ http.ResponseWriter }

// Write never fails. The server closes the connection of a client that a write did not reach.
func (w mayBeGone) Write(b []byte) (int, error) {
	_, _ = w.ResponseWriter.Write(b)
	return len(b), nil
}
