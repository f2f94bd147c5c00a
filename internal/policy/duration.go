package policy

import (
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// Duration is a time.Duration, written as 250ms, 30s or 1h30m; 0 needs no unit.
type Duration time.Duration

// String is as short as time.ParseDuration allows: 5m, not 5m0s.
func (d Duration) String() string {
	text := time.Duration(d).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// MarshalText returns String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (d *Duration) decodeNode(s *scope, n *yaml.Node, path string) {
	n = s.follow(n)
	if n == nil {
		return
	}
	parsed, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil {
		s.reject(path, "must be a duration such as 30s, got %s", describe(n))
		return
	}
	*d = Duration(parsed)
}

// Size is the size of a window: a duration, or a number of outcomes.
type Size struct {
	Duration Duration
	Count    int // where Duration is 0
	IsCount  bool
}

// MarshalJSON returns the number or the quoted duration.
func (z Size) MarshalJSON() ([]byte, error) {
	if z.IsCount {
		return []byte(strconv.Itoa(z.Count)), nil
	}
	return []byte(`"` + z.Duration.String() + `"`), nil
}

func (z *Size) decodeNode(s *scope, n *yaml.Node, path string) {
	target := s.follow(n)
	if target == nil {
		return
	}
	*z = Size{}
	if target.Kind == yaml.ScalarNode && target.ShortTag() == "!!int" && target.Load(&z.Count) == nil {
		z.IsCount = true
		return
	}
	parsed, err := time.ParseDuration(target.Value)
	if target.Kind != yaml.ScalarNode || err != nil {
		s.reject(path, "must be a duration such as 10s, or a number of outcomes for a count window, got %s", describe(target))
		return
	}
	z.Duration = Duration(parsed)
}
