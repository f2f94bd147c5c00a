package row

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Host says where a run was made and what else the machine was doing.
type Host struct {
	Kernel     string            `json:"kernel"`
	CPU        string            `json:"cpu"`
	Cores      int               `json:"cores"`
	MemoryMB   uint64            `json:"memory_mb"`
	LoadBefore string            `json:"load_before"` // averages over 1, 5 and 15 minutes
	LoadAfter  string            `json:"load_after"`
	Others     float64           `json:"others_cores"` // cores that were busy for others just before the run
	Versions   map[string]string `json:"versions"`     // of the peers, by name
}

// ThisHost describes this machine. versions are commands whose first line of output is the version of a peer.
func ThisHost(versions map[string][]string) Host {
	h := Host{Cores: runtime.NumCPU(), Versions: map[string]string{"go": runtime.Version()}, LoadBefore: LoadAverage()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	var s unix.Sysinfo_t
	if unix.Sysinfo(&s) == nil {
		h.MemoryMB = uint64(s.Totalram) * uint64(s.Unit) >> 20
	}
	h.CPU = field("/proc/cpuinfo", "model name")
	for name, command := range versions {
		h.Versions[name] = firstLine(command)
	}
	return h
}

// LoadAverage returns the machine's load averages over 1, 5 and 15 minutes.
func LoadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}

// field returns the first value of a key in a file of "key : value" lines.
func field(path, key string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

func firstLine(command []string) string {
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("unknown: %v", err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}
