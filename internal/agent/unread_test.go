package agent

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cbagent/cbagent/internal/tables"
)

func unreadOf(backend string, openings ...tables.Opening) *unread {
	u := &unread{policy: "orders", backend: backend}
	for _, o := range openings {
		u.counts[o]++
	}
	return u
}

// Each kind is logged once for a backend, and a PROXY header never.
func TestUnreadIsLoggedOnce(t *testing.T) {
	var l unreadLog
	for i, c := range []struct {
		circuit *unread
		want    []tables.Opening
	}{
		{unreadOf("a", tables.OpeningTLS), []tables.Opening{tables.OpeningTLS}},
		{unreadOf("a", tables.OpeningTLS), nil},
		{unreadOf("a", tables.OpeningTLS, tables.OpeningOther), []tables.Opening{tables.OpeningOther}},
		{unreadOf("b", tables.OpeningPROXY), nil},
		{unreadOf("b", tables.OpeningMalformed, tables.OpeningTLS), []tables.Opening{tables.OpeningTLS, tables.OpeningMalformed}},
	} {
		left := unreadPerLook
		if got := l.take(c.circuit, &left); !slices.Equal(got, c.want) || left != unreadPerLook-len(c.want) {
			t.Errorf("look %d: %v, %d left; want %v", i, got, left, c.want)
		}
	}
}

// A node with thousands of such backends logs some of them at each look, and stops.
func TestUnreadIsBounded(t *testing.T) {
	var l unreadLog
	total := 0
	for look := range 2 * unreadPerRun / unreadPerLook {
		left, n := unreadPerLook, 0
		for i := range 2 * unreadPerRun {
			n += len(l.take(unreadOf(fmt.Sprint(i), tables.OpeningTLS), &left))
		}
		if look == 0 && n != unreadPerLook {
			t.Errorf("%d at the first look, want %d", n, unreadPerLook)
		}
		total += n
	}
	if total != unreadPerRun || len(l.logged) != unreadPerRun {
		t.Errorf("%d were logged, want %d", total, unreadPerRun)
	}
}
