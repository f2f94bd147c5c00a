package policy

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// writeFiles makes a directory with the given files.
func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLoadDirectory(t *testing.T) {
	dir := writeFiles(t, map[string]string{
		"b.yaml":       "policies:\n- {name: second, match: {addresses: ['192.0.2.2:80']}}\n- {name: third, match: {hosts: ['a.example:80']}}\n",
		"a.yaml":       "defaults: {mode: monitor}\npolicies: [{name: first, match: {addresses: ['192.0.2.1:80']}}]\n",
		".hidden.yaml": "nonsense",
		"c.yml":        "nonsense",
		"README":       "nonsense",
	})
	if err := os.Mkdir(filepath.Join(dir, "..data"), 0o755); err != nil {
		t.Fatal(err)
	}
	set, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range set.Policies {
		got = append(got, p.Name+" "+p.Breaker.Mode.String())
	}
	want := []string{"first monitor", "second enforce", "third enforce"} // defaults are of one file
	if len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLoadReportsEveryFile(t *testing.T) {
	dir := writeFiles(t, map[string]string{
		"a.yaml": "policies: [{name: one, match: {addresses: ['192.0.2.1:80']}}]\n",
		"b.yaml": "policies: [{name: one, match: {addresses: ['192.0.2.1:80']}, mode: off}]\n",
		"c.yaml": "policies: [}\n",
	})
	_, err := Load(dir)
	want := dir + `/b.yaml:1:19: policies[0].name: "one" is the name of another policy, at ` + dir + `/a.yaml:1:19` + "\n" +
		dir + `/b.yaml:1:44: policies[0].match.addresses[0]: belongs, at least in part, to policy "one" already, at ` + dir +
		"/a.yaml:1:44; a backend may belong to one policy of a direction only\n" +
		dir + `/b.yaml:1:68: policies[0].mode: must be one of enforce, monitor, disabled, forced-open, got "off"` + "\n" +
		dir + `/c.yaml:1:12: not YAML: did not find expected node content`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestLoadEmptyDirectory(t *testing.T) {
	dir := t.TempDir()
	set, err := Load(dir)
	if err != nil || len(set.Policies) != 0 || len(set.Warnings) != 1 {
		t.Errorf("got %v, %v", set, err)
	}
}

func TestLoadMissing(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "nothing"))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if list, ok := errors.AsType[Errors](err); !ok || len(list) != 1 {
		t.Errorf("got %T %v, want Errors of one", err, err)
	}
}

func TestErrorsKeepTheOperatingSystemsCause(t *testing.T) {
	dir := writeFiles(t, map[string]string{"a.yaml": "policies: []"})
	if err := os.Symlink(filepath.Join(dir, "gone"), filepath.Join(dir, "b.yaml")); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
