package policy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A folder that loses its files keeps its policies in force, however they went; policies: [] removes them.
func TestEmptiedFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "policies")
	file := filepath.Join(dir, "a.yaml")
	w := &watched{T: t}
	fill := func() {
		t.Helper()
		w.do(os.MkdirAll(dir, 0o755))
		w.write(file, oneAddress("a", "1"))
	}
	fill()
	w.updates = watch(t, dir).updates
	w.untilPort("1")
	none := func(u Update) bool { return u.Err == nil && len(u.Set.Policies) == 0 }
	for name, empty := range map[string]func(){
		"the file is removed":           func() { w.do(os.Remove(file)) },
		"the file is renamed":           func() { w.do(os.Rename(file, file+".off")) },
		"the file is empty":             func() { w.do(os.Truncate(file, 0)) },
		"the file has comments only":    func() { w.write(file, "# nothing\n") },
		"the folder is an empty one":    func() { w.do(os.Rename(dir, dir+".old"), os.Mkdir(dir, 0o755)) },
		"the folder is gone altogether": func() { w.do(os.RemoveAll(dir)) },
	} {
		empty()
		for _, u := range w.until(name, func(u Update) bool { return u.Err != nil }) {
			if none(u) {
				t.Errorf("%s: all policies were removed", name)
			}
		}
		fill()
		for _, u := range w.untilPort("1") {
			if none(u) {
				t.Errorf("%s: all policies were removed", name)
			}
		}
		w.do(os.RemoveAll(dir + ".old"))
	}
	w.write(file, "policies: []\n")
	w.until("no policies, as the file says", none)
	w.do(os.Remove(file))
	w.until("an empty folder where there were no policies", func(u Update) bool { return none(u) && len(u.Set.Warnings) == 1 })
}

func TestReloadSaysHowAllAreRemoved(t *testing.T) {
	var r Reload
	one := []Source{{Name: "shop/breakers/a.yaml", Data: []byte(oneAddress("a", "1"))}}
	parse := func(sources []Source, want int) {
		t.Helper()
		set, err := r.Parse("shop/breakers", sources)
		if err != nil || len(set.Policies) != want {
			t.Fatalf("%v, %v; want %d policies", set, err, want)
		}
	}
	parse(nil, 0) // there were none before
	parse(one, 1)
	for range 2 { // it is as wrong when it is found again
		_, err := r.Parse("shop/breakers", nil)
		if err == nil || !strings.HasPrefix(err.Error(), "shop/breakers: has no *.yaml any more") || !strings.HasSuffix(err.Error(), "policies: []") {
			t.Errorf("got %v", err)
		}
	}
	parse(one, 1)
	parse([]Source{{Name: "shop/breakers/a.yaml", Data: []byte("policies: []")}}, 0)
	parse(nil, 0)
}
