package policy

import "testing"

func TestWarningsOfStreaks(t *testing.T) {
	const never = "p.yaml:4:9: policies[0].trip: consecutiveFailures.of names only outcomes that are ignored: that part can never trip"
	for _, test := range []struct {
		text string
		want string // "" = none
	}{
		{"trip: {consecutiveFailures: {count: 3, of: [raced]}}", never},
		{"trip: {consecutiveFailures: {count: 3, of: [raced, aborted]}}", never},
		{"trip: {consecutiveFailures: {count: 3, of: [raced, reset]}}", ""},
		{"trip: {consecutiveFailures: {count: 3, of: [raced]}}\noutcome: {failure: [raced, timeout]}", ""},
		{"trip: {consecutiveFailures: {count: 3, of: [404]}}", ""},
		{"trip: {consecutiveFailures: {count: 3, of: [404]}}\noutcome: {ignore: [4xx]}", never},
	} {
		set, err := parseOne(test.text)
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
		} else if got := set.Warnings.Error(); got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.text, got, test.want)
		}
	}
}
