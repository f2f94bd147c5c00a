package nearest

import (
	"slices"
	"testing"
)

func TestNames(t *testing.T) {
	names := []string{"orders", "orders-v2", "payments", "10.0.0.7:8080", "10.0.0.8:8080", "10.0.0.7:9090"}
	for _, c := range []struct {
		given string
		want  []string
	}{
		{"ordrs", []string{"orders"}},
		{"ORDERS", []string{"orders", "orders-v2"}},
		{"payment", []string{"payments"}},
		{"10.0.0.7", []string{"10.0.0.7:8080", "10.0.0.7:9090"}},
		{"10.0.0.9:8080", []string{"10.0.0.7:8080", "10.0.0.8:8080", "10.0.0.7:9090"}},
		{"zzz", nil},
		{"", nil},
	} {
		if got := Names(c.given, names); !slices.Equal(got, c.want) {
			t.Errorf("%q: got %q, want %q", c.given, got, c.want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "", 3}, {"", "abc", 3}, {"abc", "abc", 0}, {"kitten", "sitting", 3}, {"ab", "ba", 2}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%q to %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
