package policy

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// oddities makes one of each that is no regular file in a folder. FIFOs have no writer: reading one waits for ever.
func oddities(t *testing.T, dir string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(dir, name) }
	l, err := net.Listen("unix", at("socket.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	for _, err := range []error{
		unix.Mkfifo(at("fifo.yaml"), 0o600), os.Mkdir(at("folder.yaml"), 0o700),
		os.Symlink("fifo.yaml", at("link.yaml")), os.Symlink("/dev/zero", at("zero.yaml")),
		os.WriteFile(at("large.yaml"), make([]byte, MaxFileSize+1), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// What is no file of a bearable size is an error of its own for each, beside those in files that can be read, and at once.
func TestOnlyRegularFilesAreRead(t *testing.T) {
	dir := writeFiles(t, map[string]string{"a.yaml": oneAddress("a", "1"), "b.yaml": oneAddress("b", "0")})
	oddities(t, dir)
	result := make(chan error, 1)
	go func() {
		_, err := Load(dir)
		result <- err
	}()
	rest := "; a policy file must be a regular file, or a link to one\n"
	want := dir + "/b.yaml:3:23: policies[0].match.addresses[0]: must have a port between 1 and 65535, got \"192.0.2.1:0\"\n" +
		dir + "/fifo.yaml: is a FIFO" + rest + dir + "/folder.yaml: is a directory" + rest +
		dir + "/large.yaml: is larger than 16 MiB; no policy file may be\n" + dir + "/link.yaml: is a FIFO" + rest +
		dir + "/socket.yaml: is a socket" + rest + dir + "/zero.yaml: is a device" + strings.TrimSuffix(rest, "\n")
	select {
	case err := <-result:
		if err == nil || err.Error() != want {
			t.Errorf("got\n%v\nwant\n%s", err, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("reading waits for the writer of a FIFO")
	}
}

// A FIFO in the place of the file is an error, and the next reload works.
func TestWatchOverAFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.yaml")
	w := &watched{T: t}
	w.write(path, oneAddress("a", "1"))
	w.updates = watch(t, path).updates
	w.untilPort("1")
	w.do(unix.Mkfifo(path+"~", 0o600), os.Rename(path+"~", path))
	w.until("FIFO", func(u Update) bool { return u.Err != nil && strings.Contains(u.Err.Error(), "p.yaml: is a FIFO") })
	w.write(path+"~", oneAddress("a", "2"))
	w.do(os.Rename(path+"~", path))
	w.untilPort("2")
}
