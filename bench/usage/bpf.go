package usage

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Enable makes the kernel count runs and time of all BPF programs, which costs each run some 20 to 40 ns, until the
// closer is closed.
func Enable() (io.Closer, error) {
	c, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		return nil, fmt.Errorf("enable the statistics of BPF programs: %w", err)
	}
	return c, nil
}

// Runs are how often programs ran while statistics were enabled, and how long in all.
type Runs struct {
	Count uint64
	Time  time.Duration
}

// Sub returns what came after an earlier reading.
func (r Runs) Sub(earlier Runs) Runs { return Runs{r.Count - earlier.Count, r.Time - earlier.Time} }

// Programs returns the runs of all programs that a process holds, by name.
func Programs(pid int) (map[string]Runs, error) {
	all := map[string]Runs{}
	err := EachProgram(pid, func(name string, program *ebpf.Program) error {
		stats, err := program.Stats()
		if err != nil {
			return fmt.Errorf("statistics of program %s: %w", name, err)
		}
		r := all[name]
		all[name] = Runs{r.Count + stats.RunCount, r.Time + stats.Runtime}
		return nil
	})
	return all, err
}

// EachProgram calls do with each program that a process holds. The program is closed afterwards.
func EachProgram(pid int, do func(name string, program *ebpf.Program) error) error {
	seen := map[string]bool{}
	return eachDescriptor(pid, "prog_id", func(fields map[string]string) error {
		if seen[fields["prog_id"]] {
			return nil
		}
		seen[fields["prog_id"]] = true
		id, err := strconv.ParseUint(fields["prog_id"], 10, 32)
		if err != nil {
			return fmt.Errorf("program's id %q: %w", fields["prog_id"], err)
		}
		program, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
		if err != nil {
			return fmt.Errorf("open program %d: %w", id, err)
		}
		defer func() { _ = program.Close() }()
		info, err := program.Info()
		if err != nil {
			return fmt.Errorf("describe program %d: %w", id, err)
		}
		return do(info.Name, program)
	})
}

// MapMemory returns the bytes of kernel memory that the maps of a process take.
func MapMemory(pid int) (uint64, error) {
	var sum uint64
	seen := map[string]bool{}
	err := eachDescriptor(pid, "map_id", func(fields map[string]string) error {
		if seen[fields["map_id"]] {
			return nil
		}
		seen[fields["map_id"]] = true
		n, err := strconv.ParseUint(fields["memlock"], 10, 64)
		if err != nil {
			return fmt.Errorf("memory of map %s: %w", fields["map_id"], err)
		}
		sum += n
		return nil
	})
	return sum, err
}

// eachDescriptor calls do with what the kernel tells of each descriptor that has a key.
func eachDescriptor(pid int, key string, do func(map[string]string) error) error {
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil || len(paths) == 0 {
		return fmt.Errorf("descriptors of process %d: none: %w", pid, err)
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			continue // closed meanwhile
		}
		fields := map[string]string{}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			if k, v, ok := strings.Cut(lines.Text(), ":"); ok {
				fields[k] = strings.TrimSpace(v)
			}
		}
		_ = f.Close()
		if _, ok := fields[key]; ok {
			if err := do(fields); err != nil {
				return fmt.Errorf("process %d: %w", pid, err)
			}
		}
	}
	return nil
}
