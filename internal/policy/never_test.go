package policy

import (
	"fmt"
	"strings"
	"testing"
)

// What the file's own numbers exclude is a warning that says so; where they are not known, or allow it, there is none.
func TestWhatCanNeverHappen(t *testing.T) {
	const (
		noOpen = "a circuit can never open"
		noTrip = "it can never trip"
	)
	for _, c := range []struct {
		match string // "3": so many addresses
		keys  string
		path  string
		want  string // "" = no warning; else how it begins and ends
		end   string
	}{
		{"3", "ejection: {maxPercent: 10}", "ejection.maxPercent", "10 percent of 3 backends is less than one: " + noOpen, "34 lets one do so"},
		{"3", "ejection: {maxPercent: 34}", "", "", ""},
		{"3", "ejection: {maxPercent: 33.3}", "ejection.maxPercent", "33.3 percent of 3", "34 lets one do so"},
		{"10", "ejection: {maxPercent: 10}", "", "", ""},
		{"9", "ejection: {maxPercent: 10}", "ejection.maxPercent", "10 percent of 9", "12 lets one do so"},
		{"hosts: ['a.example:80']", "ejection: {maxPercent: 10, minHealthy: 1}", "", "", ""},
		{"services: ['shop/orders:http']", "ejection: {maxPercent: 10, minHealthy: 1}", "", "", ""},
		{"{addresses: ['192.0.2.1:80'], cidrs: ['198.51.100.0/24:80']}", "ejection: {maxPercent: 10, minHealthy: 1}", "", "", ""},
		{"addresses: ['192.0.2.1:80', '[::ffff:192.0.2.1]:80']", "ejection: {minHealthy: 1}", "ejection.minHealthy", "1 of 1 backends must be left", noOpen},
		{"1", "ejection: {minHealthy: 1}", "ejection.minHealthy", "1 of 1 backends must be left", noOpen},
		{"2", "ejection: {minHealthy: 1}", "", "", ""},
		{"2", "ejection: {minHealthy: 2}", "ejection.minHealthy", "2 of 2", noOpen},
		{"2", "ejection: {minHealthy: 7}", "ejection.minHealthy", "7 of 2", noOpen},
		{"1", "", "", "", ""},
		{"1", "trip: {pendingAge: 31s}", "trip", "pendingAge 31s is above outcome.timeout, 30s", noTrip},
		{"1", "trip: {pendingAge: 30s}", "", "", ""},
		{"1", "trip: {any: [{consecutiveFailures: 5}, {pendingAge: 1m}]}", "trip", "pendingAge 1m is above", noTrip},
		{"1", "trip: {pendingAge: 1m}\noutcome: {timeout: 0}", "", "", ""},
		{"1", "trip: {pendingAge: 2s}\noutcome: {timeout: 1s}", "trip", "pendingAge 2s is above outcome.timeout, 1s: a request can never trip it", "an attempt to connect"},
		{"1", "trip: {pendingAge: 2s}\noutcome: {timeout: 1s, connectTimeout: 1s}", "trip", "pendingAge 2s", noTrip},
		{"1", "protocol: tcp\ntrip: {pendingAge: 4s}", "trip", "pendingAge 4s is above outcome.connectTimeout, 3s", noTrip},
		{"1", "protocol: tcp\ntrip: {pendingAge: 3s}", "", "", ""},
		{"4", "trip: {successRateOutlier: {}}", "trip", "successRateOutlier compares 5 backends or more, and match has 4: " + noTrip, "give minBackends"},
		{"5", "trip: {successRateOutlier: {}}", "", "", ""},
		{"2", "trip: {successRateOutlier: {minBackends: 2}}", "", "", ""},
		{"hosts: ['a.example:80']", "trip: {successRateOutlier: {}}", "", "", ""},
	} {
		match := c.match
		var n int
		if _, err := fmt.Sscanf(match, "%d", &n); err == nil {
			var all []string
			for i := range n {
				all = append(all, fmt.Sprintf("'192.0.2.%d:80'", i+1))
			}
			match = "addresses: [" + strings.Join(all, ", ") + "]"
		}
		if !strings.HasPrefix(match, "{") {
			match = "{" + match + "}"
		}
		set, err := Parse("p.yaml", []byte("policies:\n- name: one\n  match: "+match+"\n  "+strings.ReplaceAll(c.keys, "\n", "\n  ")+"\n"))
		if err != nil {
			t.Errorf("%s, %s: %v", c.match, c.keys, err)
			continue
		}
		var got *Error
		for _, w := range set.Warnings {
			if !strings.Contains(w.Message, "is the same as entry") {
				got = w
			}
		}
		switch {
		case c.want == "" && got == nil:
		case c.want == "" || got == nil || got.Path != "policies[0]."+c.path || !strings.HasPrefix(got.Message, c.want) ||
			!strings.HasSuffix(got.Message, c.end) || !strings.Contains(got.Message, "can never"):
			t.Errorf("%s, %s: got %v, want %s: %s ... %s", c.match, c.keys, got, c.path, c.want, c.end)
		}
	}
}
