package policy

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRenderedPoliciesReadBack(t *testing.T) {
	for _, file := range []string{"testdata/reference.yaml", "testdata/everything.yaml"} {
		set, err := Load(file)
		if err != nil {
			t.Fatal(err)
		}
		asYAML, err := set.YAML()
		if err != nil {
			t.Fatal(err)
		}
		asJSON, err := json.Marshal(set)
		if err != nil {
			t.Fatal(err)
		}
		for _, data := range [][]byte{asYAML, asJSON} {
			back, err := Parse("rendered", data)
			if err != nil {
				t.Errorf("%s: %v in\n%s", file, err, data)
				continue
			}
			if changes := Diff(set, back); len(changes.Unchanged) != len(set.Policies) {
				t.Errorf("%s: %+v in\n%s", file, changes, data)
			}
		}
	}
}

func TestRenderedPolicy(t *testing.T) {
	set, err := Load("testdata/minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := set.YAML()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/minimal.resolved.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Error(diff)
	}
}
