package policy

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// block is a fenced block of the reference.
type block struct{ kind, text string }

func blocks(t *testing.T) []block {
	t.Helper()
	var all []block
	for _, m := range regexp.MustCompile("(?ms)^```([a-z ]+)\n(.*?)^```$").FindAllStringSubmatch(mustRead(t, "../../docs/policy.md"), -1) {
		all = append(all, block{m[1], m[2]})
	}
	return all
}

func TestExamplesOfTheReference(t *testing.T) {
	right := 0
	all := blocks(t)
	for i, b := range all {
		if !strings.HasPrefix(b.kind, "yaml") {
			continue
		}
		set, err := Parse("orders.yaml", []byte(b.text))
		var said string
		switch {
		case b.kind == "yaml wrong":
			if err == nil {
				t.Errorf("this is accepted:\n%s", b.text)
				continue
			}
			said = err.Error() + "\n"
		case err != nil:
			t.Errorf("%v in\n%s", err, b.text)
			continue
		case len(set.Warnings) > 0:
			t.Errorf("%v in\n%s", set.Warnings, b.text)
		default:
			right++
			for _, p := range set.Policies {
				said += p.Summary() + "\n"
			}
		}
		if i+1 < len(all) && all[i+1].kind == "console" {
			if diff := cmp.Diff(all[i+1].text, "$ cbagent check orders.yaml\n"+said); diff != "" {
				t.Error(diff)
			}
		}
	}
	if right < 9 || len(all) != right+3 {
		t.Errorf("%d blocks, %d of them right policies", len(all), right)
	}
}

// What the reference shows as defaults are the defaults.
func TestReferenceShowsTheDefaults(t *testing.T) {
	var full string
	for _, b := range blocks(t) {
		if strings.Contains(b.text, "defaults: {} ") {
			full = b.text
		}
	}
	for what, text := range map[string]string{"reference": full, "contract": mustRead(t, "testdata/reference.yaml")} {
		got := mustParse(t, text).Policies[0]
		want := *mustOne(t, "rateLimit: {limit: 100}")
		want.Name, want.Match = "orders", got.Match
		if !Equal(got, &want) {
			t.Errorf("%s: %s", what, cmp.Diff(want, *got, cmp.Comparer(func(a, b Match) bool { return true })))
		}
		for _, f := range fieldsOf(reflect.TypeFor[Keys]()) {
			if !strings.Contains(text, "\n  "+f.key+":") {
				t.Errorf("%s does not show %s", what, f.key)
			}
		}
	}
}
