package control

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/cbagent/cbagent/internal/nearest"
	"github.com/cbagent/cbagent/internal/view"
)

// Target names circuits: those of a policy, of a backend, of both, or all.
type Target struct {
	Policy  string // empty: any
	Backend string // name of the circuit; empty: any
}

// String returns the target in the notation of commands.
func (t Target) String() string {
	switch {
	case t.Policy == "" && t.Backend == "":
		return "all"
	case t.Policy == "":
		return t.Backend
	case t.Backend == "":
		return t.Policy
	}
	return t.Policy + "/" + t.Backend
}

// Has reports whether the target includes a circuit.
func (t Target) Has(policy, backend string) bool {
	return (t.Policy == "" || t.Policy == policy) && (t.Backend == "" || t.Backend == backend)
}

// unknownError is an error about a name that does not exist.
type unknownError struct {
	message string
	nearest []string
}

func (e *unknownError) Error() string { return describe(e.message, e.nearest) }

func describe(message string, nearest []string) string {
	if len(nearest) == 0 {
		return message
	}
	return message + "; nearest: " + strings.Join(nearest, ", ")
}

func unknown(names []string, given, format string, args ...any) error {
	return &unknownError{fmt.Sprintf(format, args...), nearest.Names(given, names)}
}

// Resolve returns the target that a text names in a snapshot. A backend is named by address and port or by its pod.
func Resolve(s *view.Snapshot, text string) (Target, error) {
	if text == "" {
		return Target{}, nil
	}
	name, backend, both := strings.Cut(text, "/")
	if both {
		p := find(s, name)
		if p == nil {
			return Target{}, unknown(policyNames(s), name, "no policy %s", name)
		}
		at, ok := circuitOf(p, backend)
		if !ok {
			return Target{}, unknown(backendNames(p), backend, "policy %s has no backend %s", name, backend)
		}
		return Target{Policy: name, Backend: at}, nil
	}
	if find(s, text) != nil {
		return Target{Policy: text}, nil
	}
	names := policyNames(s)
	for i := range s.Policies {
		p := &s.Policies[i]
		if at, ok := circuitOf(p, text); ok {
			if at == "*" {
				return Target{Policy: p.Name, Backend: at}, nil
			}
			return Target{Backend: at}, nil
		}
		names = append(names, backendNames(p)...)
	}
	return Target{}, unknown(names, text, "no policy and no backend %s", text)
}

func find(s *view.Snapshot, name string) *view.Policy {
	for i := range s.Policies {
		if s.Policies[i].Name == name {
			return &s.Policies[i]
		}
	}
	return nil
}

// covers reports whether the target includes a policy or one of its circuits.
func covers(p *view.Policy, t Target) bool {
	if t.Backend == "" {
		return t.Has(p.Name, "")
	}
	return slices.ContainsFunc(p.Circuits, func(c view.Circuit) bool { return t.Has(p.Name, c.Name) })
}

// circuitOf returns the name of the circuit that a backend has.
func circuitOf(p *view.Policy, name string) (string, bool) {
	for i := range p.Circuits {
		c := &p.Circuits[i]
		if c.Name == name {
			return c.Name, true
		}
		for _, b := range c.Backends {
			if b.Addr.String() == name || b.Pod != "" && (b.Pod == name || b.Namespace+"/"+b.Pod == name) {
				return c.Name, true
			}
		}
	}
	return "", false
}

func policyNames(s *view.Snapshot) []string {
	var names []string
	for i := range s.Policies {
		names = append(names, s.Policies[i].Name)
	}
	return names
}

func backendNames(p *view.Policy) []string {
	var names []string
	for i := range p.Circuits {
		names = append(names, p.Circuits[i].Name)
		for _, b := range p.Circuits[i].Backends {
			if b.Pod != "" {
				names = append(names, b.Pod)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// statusOf returns the HTTP status of an error.
func statusOf(err error) int {
	switch err.(type) {
	case *unknownError:
		return http.StatusNotFound
	case *badRequest:
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}

type badRequest struct{ text string }

func (e *badRequest) Error() string { return e.text }

func refuse(format string, args ...any) error { return &badRequest{fmt.Sprintf(format, args...)} }
