// Package page is the read-only page at the metrics address: one embedded file, and the data that it draws.
package page

import (
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/console"
	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/tables"
	"github.com/cbagent/cbagent/internal/view"
)

//go:embed page.html
var html []byte

// Bounds of what the page shows.
const (
	maxCircuits = 150
	maxEvents   = 500
	fresh       = time.Second // readers within it share one look at the agent
)

// State is what the page draws.
type State struct {
	Status   control.Status    `json:"status"` // policies without circuits
	Circuits []control.Circuit `json:"circuits"`
	Hidden   int               `json:"hidden"` // circuits that are left out
	Problems []string          `json:"problems"`
	Events   []view.Record     `json:"events"` // oldest first
}

// page serves the file and its data.
type page struct {
	read func() *view.Snapshot
	last func(n int) []view.Record

	mu   sync.Mutex
	made time.Time
	data []byte
}

// Register adds the page to a mux at / and /page.json.
func Register(mux *http.ServeMux, read func() *view.Snapshot, last func(n int) []view.Record) {
	p := &page{read: read, last: last}
	mux.HandleFunc("GET /{$}", serveFile)
	mux.HandleFunc("GET /page.json", p.serveData)
}

// policyHeader forbids the page everything but its own script and style and its own data.
var policyHeader = "default-src 'none'; script-src " + hashOf("script") + "; style-src " + hashOf("style") +
	"; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// hashOf returns the source expression of the page's one element of a kind.
func hashOf(element string) string {
	body := regexp.MustCompile(`(?s)<` + element + `>(.*?)</` + element + `>`).FindSubmatch(html)[1]
	sum := sha256.Sum256(body)
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func serveFile(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policyHeader)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	_, _ = w.Write(html) // the reader may be gone
}

func (p *page) serveData(w http.ResponseWriter, _ *http.Request) {
	data, err := p.state()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(data)
}

// state reads the agent's state, unless a request has read it just now.
func (p *page) state() ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(p.made) >= fresh {
		data, err := json.Marshal(newState(p.read(), p.last(maxEvents)))
		if err != nil {
			return nil, err
		}
		p.made, p.data = now, data
	}
	return p.data, nil
}

func newState(s *view.Snapshot, events []view.Record) State {
	hidden := shorten(s, maxCircuits)
	status := control.NewStatus(s, control.Target{})
	out := State{Circuits: []control.Circuit{}, Hidden: hidden.n, Problems: console.Problems(&status), Events: events}
	for i := range status.Policies {
		p := &status.Policies[i]
		out.Circuits = append(out.Circuits, p.Circuits...)
		p.Circuits, p.States = nil, hidden.states[i]
	}
	slices.SortStableFunc(out.Circuits, func(x, y control.Circuit) int { return cmp.Compare(urgency(x.State), urgency(y.State)) })
	out.Status = status
	if out.Problems == nil {
		out.Problems = []string{}
	}
	if out.Events == nil {
		out.Events = []view.Record{}
	}
	return out
}

func urgency(state string) int {
	return slices.Index([]string{"open", "half-open", "forced-open", "disabled", "closed"}, state)
}

// left says what shorten left out.
type left struct {
	n      int
	states []map[string]int // of each policy, all its circuits
}

// shorten leaves only so many circuits in the snapshot: those that are not closed, then one of each policy that has some
// without requests, since console.Problems names it, then those with the most traffic.
func shorten(s *view.Snapshot, most int) left {
	type place struct{ policy, circuit, rank int }
	var all []place
	out := left{states: make([]map[string]int, len(s.Policies))}
	for i := range s.Policies {
		out.states[i] = map[string]int{}
		seen := !s.Policies[i].Protocol.Requests()
		for j := range s.Policies[i].Circuits {
			c := &s.Policies[i].Circuits[j]
			out.states[i][c.Status.State.String()]++
			rank := 2
			switch {
			case c.Status.State != breaker.StateClosed:
				rank = 0
			case !seen && c.Totals.Admitted == 0 && c.Totals.Openings != [tables.Openings]uint64{}:
				rank, seen = 1, true
			}
			all = append(all, place{i, j, rank})
		}
	}
	if len(all) <= most {
		return out
	}
	at := func(p place) *view.Circuit { return &s.Policies[p.policy].Circuits[p.circuit] }
	slices.SortStableFunc(all, func(x, y place) int {
		return cmp.Or(x.rank-y.rank, cmp.Compare(at(y).Totals.Admitted, at(x).Totals.Admitted))
	})
	keep := make([][]view.Circuit, len(s.Policies))
	slices.SortFunc(all[:most], func(x, y place) int { return cmp.Or(x.policy-y.policy, x.circuit-y.circuit) })
	for _, p := range all[:most] {
		keep[p.policy] = append(keep[p.policy], *at(p))
	}
	for i := range keep {
		s.Policies[i].Circuits = keep[i]
	}
	out.n = len(all) - most
	return out
}
