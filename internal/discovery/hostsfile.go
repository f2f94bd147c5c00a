package discovery

import (
	"bufio"
	"bytes"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// hostsFile is /etc/hosts. It is read again when it has changed.
type hostsFile struct {
	path string

	mu     sync.Mutex
	mtime  time.Time
	size   int64
	byName map[string][]netip.Addr
}

// lookup returns the addresses of name in the file. A file that cannot be read has no names.
func (f *hostsFile) lookup(name string) []netip.Addr {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err != nil {
		f.byName = nil
		return nil
	}
	if f.byName == nil || !info.ModTime().Equal(f.mtime) || info.Size() != f.size {
		content, err := os.ReadFile(f.path)
		if err != nil {
			return nil
		}
		f.byName, f.mtime, f.size = parseHosts(content), info.ModTime(), info.Size()
	}
	return f.byName[strings.TrimSuffix(strings.ToLower(name), ".")]
}

// parseHosts reads lines of the form ADDRESS NAME ...; a # starts a comment, and other lines are ignored.
func parseHosts(content []byte) map[string][]netip.Addr {
	byName := make(map[string][]netip.Addr)
	for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(fields[0])
		if err != nil {
			continue
		}
		for _, name := range fields[1:] {
			name = strings.TrimSuffix(strings.ToLower(name), ".")
			byName[name] = append(byName[name], addr.Unmap().WithZone(""))
		}
	}
	return byName
}
