package policy

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func mustParse(t *testing.T, text string) *Set {
	t.Helper()
	set, err := Parse("p.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestDiff(t *testing.T) {
	const (
		a     = "- {name: a, match: {addresses: ['192.0.2.1:80']}}\n"
		b     = "- {name: b, match: {addresses: ['192.0.2.2:80']}}\n"
		bLong = "- {name: b, window: {size: 10s, bucket: 1s}, rateLimit: null, match: {addresses: ['[::ffff:192.0.2.2]:80']}}\n"
		bNew  = "- {name: b, mode: monitor, match: {addresses: ['192.0.2.2:80']}}\n"
		c     = "- {name: c, match: {addresses: ['192.0.2.1:80']}}\n"
	)
	for _, test := range []struct {
		what     string
		old, new string
		want     Changes
	}{
		{"the same", a + b, a + b, Changes{Unchanged: []string{"a", "b"}}},
		{"another order", a + b, b + a, Changes{Unchanged: []string{"b", "a"}}},
		{"written otherwise", a + b, "# moved\n\n" + bLong, Changes{Removed: []string{"a"}, Unchanged: []string{"b"}}},
		{"a key", a + b, a + bNew, Changes{Changed: []string{"b"}, Unchanged: []string{"a"}}},
		{"another name", a, c, Changes{Added: []string{"c"}, Removed: []string{"a"}}},
		{"all gone", a + b, "  []", Changes{Removed: []string{"a", "b"}}},
	} {
		got := Diff(mustParse(t, "policies:\n"+test.old), mustParse(t, "policies:\n"+test.new))
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", test.what, diff)
		}
	}
	if got := Diff(nil, mustParse(t, "policies:\n"+a)); len(got.Added) != 1 || len(Diff(nil, nil).Added) != 0 {
		t.Errorf("from nothing: %+v", got)
	}
}

func TestFind(t *testing.T) {
	set := mustParse(t, "policies: [{name: a, match: {hosts: ['a:80']}}]")
	if set.Find("a") != set.Policies[0] || set.Find("b") != nil {
		t.Error("Find finds what is not there, or does not find what is")
	}
}
