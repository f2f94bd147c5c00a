package policy

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/nearest"
)

// Outcomes is a list of outcome classes: statuses, classes such as 5xx, ranges such as 500-504, and names.
type Outcomes []string

// outcomeNames are the outcomes that a policy may name.
var outcomeNames = append([]breaker.Result{
	breaker.ResultConnectRefused, breaker.ResultConnectTimeout, breaker.ResultUnreachable, breaker.ResultReset,
	breaker.ResultTimeout, breaker.ResultAbandoned, breaker.ResultAborted, breaker.ResultRaced,
	breaker.ResultH2Refused, breaker.ResultH2Reset,
}, grpcResults()...)

func grpcResults() []breaker.Result {
	all := make([]breaker.Result, breaker.GRPCCodes)
	for code := range all {
		all[code] = breaker.ResultGRPC(code)
	}
	return all
}

// OutcomeNames returns the names of outcomes that a list may have beside statuses, classes and ranges.
func OutcomeNames() []string {
	names := make([]string, len(outcomeNames))
	for i, r := range outcomeNames {
		names[i] = r.String()
	}
	return names
}

// addOutcome puts the results that text stands for in the set.
func addOutcome(set *breaker.ResultSet, text string) error {
	for _, r := range outcomeNames {
		if text == r.String() {
			set.Add(r)
			return nil
		}
	}
	first, last := status(text), status(text)
	switch {
	case len(text) == 3 && text[1:] == "xx":
		first = status(text[:1] + "00")
		last = first + 99
	case len(text) == 7 && text[3] == '-':
		first, last = status(text[:3]), status(text[4:])
	}
	if first == 0 || first > last {
		return fmt.Errorf("must be a status (503), a class (5xx), a range (500-504), connect-refused, connect-timeout, "+
			"unreachable, reset, timeout, abandoned, aborted, raced, h2-refused, h2-reset, or grpc- and the name of a "+
			"gRPC code (grpc-unavailable), got %s%s", text, meantCode(text))
	}
	set.AddRange(breaker.Result(first), breaker.Result(last))
	return nil
}

// meantCode asks for the gRPC code that was probably meant, if text looks like one.
func meantCode(text string) string {
	rest, ok := strings.CutPrefix(strings.ToLower(strings.ReplaceAll(text, "_", "-")), "grpc-")
	if !ok {
		return ""
	}
	if code, err := strconv.Atoi(rest); err == nil {
		if r := breaker.ResultGRPC(code); r != breaker.ResultUnknown {
			return fmt.Sprintf("; did you mean %s?", r)
		}
		return ""
	}
	var names []string
	for _, r := range grpcResults() {
		names = append(names, strings.TrimPrefix(r.String(), "grpc-"))
	}
	if near := nearest.Names(rest, names); len(near) > 0 {
		return "; did you mean grpc-" + near[0] + "?"
	}
	return ""
}

// status returns the HTTP status that text stands for, or 0.
func status(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 100 || n > breaker.MaxStatus || len(text) != 3 {
		return 0
	}
	return n
}

// results returns the union of all classes, which must have been read without an error.
func (o Outcomes) results() breaker.ResultSet {
	var set breaker.ResultSet
	for _, text := range o {
		if err := addOutcome(&set, text); err != nil {
			panic(err)
		}
	}
	return set
}

// outcomesOf returns the shortest list of classes that stands for the set.
func outcomesOf(set breaker.ResultSet) Outcomes {
	list := Outcomes{}
	for first := 100; first <= breaker.MaxStatus; first++ {
		if !set.Has(breaker.Result(first)) {
			continue
		}
		last := first
		for last < breaker.MaxStatus && set.Has(breaker.Result(last+1)) {
			last++
		}
		switch {
		case first%100 == 0 && last >= first+99:
			last = first + 99
			list = append(list, strconv.Itoa(first/100)+"xx")
		case first == last:
			list = append(list, strconv.Itoa(first))
		default:
			list = append(list, fmt.Sprintf("%d-%d", first, last))
		}
		first = last
	}
	for _, r := range outcomeNames {
		if set.Has(r) {
			list = append(list, r.String())
		}
	}
	return list
}

func (o *Outcomes) decodeNode(s *scope, n *yaml.Node, path string) {
	s.forget(path)
	s.mark(path, n)
	*o = Outcomes{}
	for i, item := range s.items(n, path) {
		at := fmt.Sprintf("%s[%d]", path, i)
		s.mark(at, item)
		target := s.follow(item)
		if target == nil {
			return
		}
		text := target.Value
		if tag := target.ShortTag(); target.Kind != yaml.ScalarNode || (tag != "!!str" && tag != "!!int") {
			text = describe(target)
		}
		if err := addOutcome(new(breaker.ResultSet), text); err != nil {
			s.reject(at, "%s", err)
			s.bad[path] = true
			continue
		}
		*o = append(*o, text)
	}
}
