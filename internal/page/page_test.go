package page

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/tables"
	"github.com/cbagent/cbagent/internal/view"
	"github.com/cbagent/cbagent/internal/view/viewtest"
)

func get(t *testing.T, mux *http.ServeMux, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

// The page is one file that loads nothing else, and its headers forbid the browser to do so.
func TestFile(t *testing.T) {
	mux := http.NewServeMux()
	Register(mux, func() *view.Snapshot { return viewtest.Incident(t) }, func(int) []view.Record { return nil })
	w := get(t, mux, "/")
	if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	for _, outside := range []string{"http:", "https:", "//", "src=", "@import", "url("} {
		for line := range strings.Lines(w.Body.String()) {
			if strings.Contains(line, outside) && !strings.Contains(line, "http://www.w3.org/2000/svg") && !regexp.MustCompile(`(^|\s)// `).MatchString(line) {
				t.Errorf("%q in %q", outside, line)
			}
		}
	}
	if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe-inline") {
		t.Errorf("policy %q", csp)
	}
	if w := get(t, mux, "/elsewhere"); w.Code != http.StatusNotFound {
		t.Errorf("/elsewhere: %d", w.Code)
	}
	post := httptest.NewRecorder()
	mux.ServeHTTP(post, httptest.NewRequest(http.MethodPost, "/", nil))
	if post.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", post.Code)
	}
}

func TestData(t *testing.T) {
	looks := 0
	mux := http.NewServeMux()
	Register(mux, func() *view.Snapshot {
		looks++
		return viewtest.Incident(t)
	}, func(n int) []view.Record { return []view.Record{{Seq: uint64(n)}} })
	var s State
	for range 5 {
		if err := json.Unmarshal(get(t, mux, "/page.json").Body.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
	}
	if looks > 2 {
		t.Errorf("five readers at once made %d looks at the agent", looks)
	}
	var states []string
	for _, c := range s.Circuits {
		states = append(states, c.State)
	}
	if got := fmt.Sprint(states); got != "[open half-open disabled closed]" {
		t.Errorf("circuits are %s", got)
	}
	if s.Status.Policies[0].States["open"] != 1 || len(s.Status.Policies[0].Circuits) != 0 || len(s.Problems) != 5 || len(s.Events) != 1 || s.Hidden != 0 {
		t.Errorf("got %+v", s)
	}
}

// Of a policy that sees no requests one circuit stays: the page names it as a problem.
func TestACircuitWithoutRequestsStays(t *testing.T) {
	s := viewtest.Incident(t)
	p := &s.Policies[0]
	p.Circuits = nil
	for n := range 20 {
		c := view.Circuit{Name: fmt.Sprint(n), Status: breaker.Status{Until: breaker.Never}}
		if c.Totals.Admitted = uint64(max(0, n-1)); n < 2 || n > 17 { // 0 and 1 have no requests
			c.Totals.Openings[tables.OpeningTLS] = 1
		}
		p.Circuits = append(p.Circuits, c)
	}
	s.Policies[1].Circuits[0].Totals.Admitted = 0 // tcp
	shorten(s, 3)
	var names []string
	for _, c := range slices.Concat(p.Circuits, s.Policies[1].Circuits) {
		names = append(names, c.Name)
	}
	if want := "[0 18 19]"; fmt.Sprint(names) != want {
		t.Errorf("left are %v, want %s", names, want)
	}
}

func TestTheQuietestAreLeftOut(t *testing.T) {
	s := viewtest.Incident(t)
	p := &s.Policies[1]
	for n := range 20 {
		c := view.Circuit{Name: fmt.Sprint(n), Status: breaker.Status{Until: breaker.Never}}
		c.Totals.Admitted = uint64(10 + n)
		if n == 0 {
			c.Status.State = breaker.StateOpen
		}
		p.Circuits = append(p.Circuits, c)
	}
	got := shorten(s, 6)
	var names []string
	for _, p := range s.Policies {
		for _, c := range p.Circuits {
			names = append(names, c.Name)
		}
	}
	if want := "[192.0.2.7:8080 192.0.2.8:8080 192.0.2.9:8080 0 18 19]"; fmt.Sprint(names) != want || got.n != 18 {
		t.Errorf("left are %v, %d hidden; want %s, 18 hidden", names, got.n, want)
	}
	if got.states[1]["closed"] != 20 || got.states[1]["open"] != 1 {
		t.Errorf("states %v", got.states)
	}
}
