package policy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// oneAddress is a policy file with the given name and port.
func oneAddress(name, port string) string {
	return "policies:\n- name: " + name + "\n  match: {addresses: ['192.0.2.1:" + port + "']}\n"
}

// watched collects updates of a path.
type watched struct {
	*testing.T
	updates <-chan Update
}

func watch(t *testing.T, path string) *watched {
	t.Helper()
	updates, err := Watch(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return &watched{t, updates}
}

// until reads updates up to the first that want accepts, and returns those before it.
func (w *watched) until(what string, want func(Update) bool) (before []Update) {
	w.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case update := <-w.updates:
			if want(update) {
				return before
			}
			before = append(before, update)
		case <-deadline:
			w.Fatalf("no update with %s; there were %v", what, before)
		}
	}
}

// untilPort waits for a set of one policy with that port.
func (w *watched) untilPort(port string) []Update {
	w.Helper()
	return w.until("port "+port, func(u Update) bool {
		return u.Err == nil && len(u.Set.Policies) == 1 && strings.HasSuffix(u.Set.Policies[0].Match.Addresses[0].String(), ":"+port)
	})
}

func (w *watched) write(path, text string) {
	w.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.Fatal(err)
	}
}

func (w *watched) do(errs ...error) {
	w.Helper()
	for _, err := range errs {
		if err != nil {
			w.Fatal(err)
		}
	}
}

func TestWatchFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.yaml")
	w := watch(t, path)
	w.until("missing file", func(u Update) bool { return u.Err != nil })
	w.write(path, oneAddress("a", "1"))
	w.untilPort("1")
	w.write(path, oneAddress("a", "2"))
	w.untilPort("2")

	// An editor: a new file is renamed over the old one.
	w.write(path+"~", oneAddress("a", "3"))
	w.do(os.Rename(path+"~", path))
	if before := w.untilPort("3"); len(before) > 0 {
		t.Errorf("rename-over made other updates first: %v", before)
	}

	// Another kind of editor: the old file is moved away first.
	w.do(os.Rename(path, path+"~"))
	w.write(path, oneAddress("a", "4"))
	w.untilPort("4")
}

func TestWatchPartialWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.yaml")
	w := watch(t, path)
	text := oneAddress("a", "1")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range text {
		if _, err := f.WriteString(text[i : i+1]); err != nil {
			t.Fatal(err)
		}
	}
	w.do(f.Close())
	for _, u := range w.untilPort("1") {
		if u.Err == nil {
			t.Errorf("a part of the file was taken for the whole: %v", u.Set.Policies)
		}
	}
}

func TestWatchSaysWhatIsWrong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.yaml")
	w := watch(t, path)
	w.write(path, oneAddress("a", "1"))
	w.untilPort("1")
	w.write(path, oneAddress("a", "0"))
	w.until("error", func(u Update) bool {
		return u.Set == nil && u.Err != nil && strings.Contains(u.Err.Error(), "p.yaml:3:23: policies[0].match.addresses[0]: must have a port")
	})
	w.write(path, oneAddress("a", "1"))
	w.untilPort("1")
}

func TestWatchDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "policies")
	w := watch(t, dir)
	w.until("missing directory", func(u Update) bool { return u.Err != nil })
	w.do(os.Mkdir(dir, 0o755))
	w.until("empty directory", func(u Update) bool { return u.Err == nil && len(u.Set.Policies) == 0 })
	w.write(filepath.Join(dir, "a.yaml"), oneAddress("a", "1"))
	w.untilPort("1")
	w.write(filepath.Join(dir, "b.yaml"), oneAddress("b", "2"))
	w.until("two policies", func(u Update) bool { return u.Err == nil && len(u.Set.Policies) == 2 })
	w.do(os.Remove(filepath.Join(dir, "a.yaml")))
	w.untilPort("2")

	// The directory is replaced by another of the same name.
	w.do(os.Rename(dir, dir+".old"), os.Mkdir(dir, 0o755))
	w.write(filepath.Join(dir, "c.yaml"), oneAddress("c", "3"))
	w.untilPort("3")
	w.write(filepath.Join(dir, "c.yaml"), oneAddress("c", "4"))
	w.untilPort("4")
}

// configMap is a folder as kubelet mounts a ConfigMap: files are links into ..data, which is a link that is swapped.
type configMap struct {
	*watched
	dir string
}

func (c configMap) publish(version string, files map[string]string) {
	c.Helper()
	c.do(os.Mkdir(filepath.Join(c.dir, version), 0o755))
	for name, text := range files {
		c.write(filepath.Join(c.dir, version, name), text)
	}
	old, _ := os.Readlink(filepath.Join(c.dir, "..data"))
	c.do(
		os.Symlink(version, filepath.Join(c.dir, "..data_tmp")),
		os.Rename(filepath.Join(c.dir, "..data_tmp"), filepath.Join(c.dir, "..data")),
	)
	if old != "" {
		c.do(os.RemoveAll(filepath.Join(c.dir, old)))
	}
}

func TestWatchConfigMap(t *testing.T) {
	for _, what := range []string{"directory", "file"} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			c := configMap{&watched{T: t}, dir}
			c.publish("..2026_01", map[string]string{"p.yaml": oneAddress("a", "1")})
			c.do(os.Symlink(filepath.Join("..data", "p.yaml"), filepath.Join(dir, "p.yaml")))
			path := dir
			if what == "file" {
				path = filepath.Join(dir, "p.yaml")
			}
			c.watched = watch(t, path)
			c.untilPort("1")
			for i, port := range []string{"2", "3", "4"} {
				c.publish("..2026_02"+port, map[string]string{"p.yaml": oneAddress("a", port)})
				if before := c.untilPort(port); len(before) > 0 {
					t.Errorf("swap %d made other updates first: %v", i, before)
				}
			}
		})
	}
}

func TestWatchLinkElsewhere(t *testing.T) {
	dir := t.TempDir()
	for _, version := range []string{"v1", "v2"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w := &watched{T: t}
	w.write(filepath.Join(dir, "v1", "p.yaml"), oneAddress("a", "1"))
	w.write(filepath.Join(dir, "v2", "p.yaml"), oneAddress("a", "2"))
	current := filepath.Join(dir, "current")
	w.do(os.Symlink("v1", current), os.Symlink(filepath.Join(current, "p.yaml"), filepath.Join(dir, "p.yaml")))
	w.updates = watch(t, filepath.Join(dir, "p.yaml")).updates
	w.untilPort("1")
	w.do(os.Symlink("v2", current+"~"), os.Rename(current+"~", current))
	w.untilPort("2")
	w.write(filepath.Join(dir, "v2", "p.yaml"), oneAddress("a", "3"))
	w.untilPort("3")
}

// A reader that comes late gets the newest update, not the oldest.
func TestWatchKeepsTheNewest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.yaml")
	w := &watched{T: t}
	w.write(path, oneAddress("a", "1"))
	source := &watcher{path: path, updates: make(chan Update, 1)}
	source.reload()
	w.write(path, oneAddress("a", "2"))
	source.reload()
	source.reload() // nothing new
	w.updates = source.updates
	if before := w.untilPort("2"); len(before) > 0 {
		t.Errorf("older updates were left: %v", before)
	}
	select {
	case u := <-source.updates:
		t.Errorf("content that is the same made an update: %v", u)
	default:
	}
}

func TestWatchWithoutInotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.yaml")
	source := &watcher{path: path, updates: make(chan Update, 1)}
	w := &watched{t, source.updates}
	w.write(path, oneAddress("a", "1"))
	source.reload()
	go source.run(t.Context(), pollNoInotify)
	w.untilPort("1")
	w.write(path, oneAddress("a", "2"))
	w.untilPort("2")
}
