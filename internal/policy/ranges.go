package policy

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
)

// checkTags reports a value that is outside the range or enumeration of its field.
func checkTags(s *scope, v reflect.Value, path string, tag reflect.StructTag) {
	if enum := tag.Get("enum"); enum != "" {
		if known := strings.Split(enum, ","); !slices.Contains(known, v.String()) {
			s.reject(path, "must be one of %s, got %q", strings.Join(known, ", "), v.String())
		}
	}
	if r := RangeOf(tag); r != "" {
		if problem := checkRange(r, v.Interface()); problem != "" {
			s.reject(path, "%s", problem)
		}
	}
}

// RangeOf returns what a field with the tag accepts, in the notation of the tag range: "1..100", "0s..1h", "(0..1" without
// the 0. It is empty where any value of the field's type is accepted.
func RangeOf(tag reflect.StructTag) string {
	if setting, ok := tag.Lookup("bounds"); ok {
		return breaker.BoundsOf(setting).String()
	}
	return tag.Get("range")
}

// checkRange says why value, an int, float64 or Duration, is not in the range that text describes.
func checkRange(text string, value any) string {
	low, high, _ := strings.Cut(text, "..")
	low, exclusive := strings.CutPrefix(low, "(")
	var x, least, most float64
	got := fmt.Sprint(value)
	switch value := value.(type) {
	case Duration:
		x, least, most = float64(value), float64(mustDuration(low)), float64(mustDuration(high))
	case int:
		x, least, most = float64(value), mustNumber(low), mustNumber(high)
	case float64:
		x, least, most = value, mustNumber(low), mustNumber(high)
		got = strconv.FormatFloat(value, 'g', -1, 64)
	}
	switch {
	case exclusive && (x <= least || x > most):
		return fmt.Sprintf("must be above %s and at most %s, got %s", low, high, got)
	case x >= least && x <= most:
		return ""
	case least == most:
		return fmt.Sprintf("must be %s, got %s", low, got)
	}
	return fmt.Sprintf("must be between %s and %s, got %s", low, high, got)
}

func mustDuration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		panic(err)
	}
	return d
}

func mustNumber(text string) float64 {
	x, err := strconv.ParseFloat(text, 64)
	if err != nil {
		panic(err)
	}
	return x
}
