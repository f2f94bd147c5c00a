package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestListIsSound(t *testing.T) {
	if err := sound(mutants); err != nil {
		t.Error(err)
	}
	if sound([]mutant{{Name: "a"}}) == nil {
		t.Error("a mutant without a file is accepted")
	}
}

// newTree writes a module whose test sees whether Double doubles, but not what it does with 0.
func newTree(t *testing.T) string {
	t.Helper()
	tree := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":       "module example.org/m\n\ngo 1.26\n",
		"m.go":         "package m\n\nfunc Double(n int) int {\n\tif n == 0 {\n\t\treturn 0\n\t}\n\treturn 2 * n\n}\n",
		"m_test.go":    "package m\n\nimport \"testing\"\n\nfunc TestDouble(t *testing.T) {\n\tif Double(2) != 4 {\n\t\tt.Error(Double(2))\n\t}\n}\n",
		"fail_test.go": "package m\n\nimport \"testing\"\n\nfunc TestFails(t *testing.T) { t.Error() }\n",
	} {
		if err := os.WriteFile(filepath.Join(tree, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

func TestTry(t *testing.T) {
	l := &lab{tree: newTree(t)}
	before, err := os.ReadFile(filepath.Join(l.tree, "m.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		old, new string
		killed   bool
		err      string
	}{
		{"return 2 * n", "return 3 * n", true, ""},
		{"return 2 * n", "panic(n)", true, ""},
		{"return 0", "return 7", false, ""},
		{"return 2 * n", "return two * n", false, "undefined: two"},
		{"return", "", false, "has this text 2 times"},
		{"return 4", "", false, "has this text 0 times"},
	} {
		killed, err := l.try(mutant{Name: "x", File: "m.go", Old: c.old, New: c.new, Package: ".", Test: "TestDouble"})
		if killed != c.killed || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q for %q: killed %t, %v; want %t, %q", c.new, c.old, killed, err, c.killed, c.err)
		}
		if after, err := os.ReadFile(filepath.Join(l.tree, "m.go")); err != nil || string(after) != string(before) {
			t.Fatalf("the fault was left in: %v\n%s", err, after)
		}
	}
}

// A test that is not there, or that fails without a fault, kills nothing.
func TestSane(t *testing.T) {
	l := &lab{tree: newTree(t)}
	for test, want := range map[string]string{"TestDouble": "", "TestDoubl": "does not exist", "TestFails": "without a fault"} {
		err := l.sane([]mutant{{Package: ".", Test: test}})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", test, err, want)
		}
	}
}
