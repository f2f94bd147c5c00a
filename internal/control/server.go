package control

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/cbagent/cbagent/internal/history"
	"github.com/cbagent/cbagent/internal/policy"
)

// writeTimeout is the time limit of one write to a reader of a stream. After it the stream ends.
const writeTimeout = 10 * time.Second

// followBuffer is how many records may wait for a reader.
const followBuffer = 1024

type server struct {
	agent Agent
	log   *slog.Logger
}

// Handler returns the API of an agent. The connections must have a client in their context: see ConnContext.
func Handler(agent Agent, logger *slog.Logger) http.Handler {
	s := &server{agent, logger}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("GET /v1/ready", s.ready)
	mux.HandleFunc("GET /v1/policies", s.policies)
	mux.HandleFunc("GET /v1/events", s.events)
	mux.HandleFunc("GET /v1/trace", s.trace)
	mux.HandleFunc("POST /v1/override", s.override)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusNotFound, Error{Message: fmt.Sprintf("no %s %s in this agent's API: it may be of another version", r.Method, r.URL.Path)})
	})
	return mux
}

func (s *server) status(w http.ResponseWriter, r *http.Request) {
	snapshot := s.agent.Snapshot()
	t, err := Resolve(snapshot, r.FormValue("target"))
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, http.StatusOK, NewStatus(snapshot, t))
}

func (s *server) ready(w http.ResponseWriter, _ *http.Request) {
	var ready Readiness
	if err := s.agent.Ready(); err != nil {
		ready.WaitsFor = err.Error()
	} else {
		ready.Ready = true
	}
	answer(w, http.StatusOK, ready)
}

func (s *server) policies(w http.ResponseWriter, r *http.Request) {
	set := s.agent.Policies()
	if set == nil {
		set = &policy.Set{}
	}
	if text := r.FormValue("target"); text != "" {
		snapshot := s.agent.Snapshot()
		t, err := Resolve(snapshot, text)
		if err != nil {
			fail(w, err)
			return
		}
		meant := &policy.Set{}
		for _, p := range set.Policies {
			if shown := find(snapshot, p.Name); shown != nil && covers(shown, t) {
				meant.Policies = append(meant.Policies, p)
			}
		}
		set = meant
	}
	answer(w, http.StatusOK, set)
}

func (s *server) override(w http.ResponseWriter, r *http.Request) {
	var o Override
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		fail(w, refuse("the request cannot be read: %v", err))
		return
	}
	order, err := o.check()
	if err != nil {
		fail(w, err)
		return
	}
	t, err := Resolve(s.agent.Snapshot(), o.Target)
	if err != nil {
		fail(w, err)
		return
	}
	order.By = clientOf(r.Context()).onBehalf(o.By)
	answer(w, http.StatusOK, s.agent.Override(t, order))
}

// Limits of the fields of an Override.
const (
	maxReason = 500
	maxFor    = 365 * 24 * time.Hour
)

// check returns all errors of an Override.
func (o *Override) check() (Order, error) {
	order := Order{Action: o.Action, For: time.Duration(o.ForSeconds * float64(time.Second)), Reason: o.Reason}
	var wrong string
	add := func(format string, args ...any) {
		if wrong != "" {
			wrong += "; "
		}
		wrong += fmt.Sprintf(format, args...)
	}
	switch o.Action {
	case ActionOpen, ActionDisable:
		if o.ForSeconds != 0 && (o.ForSeconds < 1 || o.ForSeconds > maxFor.Seconds()) {
			add("for: must be between 1s and %s, got %gs", maxFor, o.ForSeconds)
		}
	case ActionClose, ActionAuto:
		if o.ForSeconds != 0 {
			add("for: %s is done once and lasts no time; to let clients through for a time, use disable", o.Action)
		}
	default:
		add("action: must be open, close, disable or auto, got %q", o.Action)
	}
	if o.Target == "" {
		add("target: name a policy, or POLICY/BACKEND")
	}
	if o.Reason == "" {
		add("reason: say why, for those who read the history")
	}
	if len(o.Reason) > maxReason {
		add("reason: at most %d bytes, got %d", maxReason, len(o.Reason))
	}
	if wrong != "" {
		return order, &badRequest{wrong}
	}
	return order, nil
}

func (s *server) events(w http.ResponseWriter, r *http.Request) {
	last, err := number(r, "last", history.Kept)
	if err != nil {
		fail(w, err)
		return
	}
	var t Target
	if text := r.FormValue("target"); text != "" {
		if t, err = resolveForHistory(s.agent, text); err != nil {
			fail(w, err)
			return
		}
	}
	if r.FormValue("follow") != "true" {
		out := newStream(w)
		out.records(s.agent.Last(history.Kept), t, last)
		_ = out.flush() // the reader may be gone
		return
	}
	past, follower, err := s.agent.Follow(history.Kept, followBuffer)
	if err != nil {
		answer(w, http.StatusServiceUnavailable, Error{Message: err.Error()})
		return
	}
	defer follower.Close()
	out := newStream(w)
	out.records(past, t, last)
	if out.flush() != nil {
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case rec, ok := <-follower.Records():
			if !ok {
				return
			}
			if n := follower.Missed(); n > 0 {
				out.encode(Missed{n})
			}
			if t.Has(rec.Policy, rec.Backend) {
				out.encode(rec)
			}
			if len(follower.Records()) == 0 && out.flush() != nil {
				return
			}
		}
	}
}

// resolveForHistory also resolves names that exist only in the history.
func resolveForHistory(a Agent, text string) (Target, error) {
	t, err := Resolve(a.Snapshot(), text)
	if err == nil {
		return t, nil
	}
	for _, rec := range a.Last(history.Kept) {
		switch text {
		case rec.Policy + "/" + rec.Backend:
			return Target{Policy: rec.Policy, Backend: rec.Backend}, nil
		case rec.Policy:
			return Target{Policy: rec.Policy}, nil
		case rec.Backend:
			return Target{Backend: rec.Backend}, nil
		}
	}
	return t, err
}

// aliveEvery is the interval at which a trace without outcomes advances its clock, which also detects that its reader is
// gone.
const aliveEvery = time.Second

// aliveLag is how far that clock stays behind, because outcomes may arrive late.
const aliveLag = time.Second / 2

func (s *server) trace(w http.ResponseWriter, r *http.Request) {
	t, err := Resolve(s.agent.Snapshot(), r.FormValue("target"))
	if err != nil {
		fail(w, err)
		return
	}
	tr, err := s.agent.Trace(t)
	if err != nil {
		answer(w, http.StatusServiceUnavailable, Error{Message: err.Error()})
		return
	}
	defer tr.Close()
	out := newStream(w)
	var lines TraceWriter
	if out.flush() != nil {
		return
	}
	clock := time.NewTicker(aliveEvery)
	defer clock.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-clock.C:
			if len(tr.Lines()) == 0 {
				out.write(lines.Tick(out.free(), monotonic()-int64(aliveLag)))
			}
			if out.flush() != nil {
				return
			}
		case l := <-tr.Lines():
			if n := tr.Missed(); n > 0 {
				out.encode(Missed{n})
			}
			out.write(lines.Append(out.free(), &l))
			if len(tr.Lines()) == 0 && out.flush() != nil {
				return
			}
		}
	}
}

func number(r *http.Request, key string, def int) (int, error) {
	text := r.FormValue(key)
	if text == "" {
		return def, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, refuse("%s: must be a number, 0 or more, got %q", key, text)
	}
	return n, nil
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(body) // the client may be gone
}

func fail(w http.ResponseWriter, err error) {
	body := Error{Message: err.Error()}
	if u, ok := err.(*unknownError); ok {
		body = Error{Message: u.message, Nearest: u.nearest}
	}
	answer(w, statusOf(err), body)
}

// ConnContext adds the user at the other end of a connection to the context. It is for http.Server.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, clientKey{}, peerOf(c))
}
