// Package doctor says what is right and what is wrong with a machine and the agent on it.
package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/cgroup"
	"github.com/cbagent/cbagent/internal/console"
	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/loader"
	"github.com/cbagent/cbagent/internal/view"
)

// Level says how bad it is.
type Level string

// Levels.
const (
	OK   Level = "ok"
	Note Level = "note" // works, but less well, or should be known
	Fail Level = "fail" // does not work
)

// Check is one thing that was looked at.
type Check struct {
	Name   string `json:"name"`
	Level  Level  `json:"level"`
	Says   string `json:"says"`
	Remedy string `json:"remedy,omitempty"`
}

// Failed reports whether any check failed.
func Failed(all []Check) bool {
	for _, c := range all {
		if c.Level == Fail {
			return true
		}
	}
	return false
}

// Machine looks at the kernel and at what this process may do. agentRuns tells that an agent is there with rights of its
// own, so that missing ones here matter only to this look.
func Machine(agentRuns bool) []Check {
	all := []Check{release()}
	missing := loader.MissingCapabilities()
	switch {
	case len(missing) == 0:
		all = append(all, Check{Name: "capabilities", Level: OK, Says: "BPF, NET_ADMIN and PERFMON"})
	case agentRuns:
		all = append(all, Check{Name: "capabilities", Level: Note, Says: "not looked at the kernel: this process lacks " + strings.Join(missing, ", "),
			Remedy: "run doctor as root to have the kernel's features tried"})
		return append(all, surroundings()...)
	default:
		all = append(all, Check{Name: "capabilities", Level: Fail, Says: "this process lacks " + strings.Join(missing, ", "),
			Remedy: "run as root; in a pod, securityContext: {runAsUser: 0, capabilities: {add: [BPF, NET_ADMIN, PERFMON]}}"})
		return append(all, surroundings()...)
	}
	for _, f := range loader.Features() {
		all = append(all, feature(f))
	}
	return append(all, surroundings()...)
}

func release() Check {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return Check{Name: "kernel", Level: Note, Says: "its release is not known: " + err.Error()}
	}
	return Check{Name: "kernel", Level: OK, Says: unix.ByteSliceToString(u.Release[:]) + ", " + unix.ByteSliceToString(u.Machine[:])}
}

func feature(f loader.Feature) Check {
	c := Check{Name: f.Name, Level: OK, Says: "there"}
	switch {
	case f.OK():
		return c
	case errors.Is(f.Err, ebpf.ErrNotSupported):
		c.Level, c.Says, c.Remedy = Fail, "not there", "Linux "+f.Kernel+" or newer has it"
		if !f.Required {
			c.Level, c.Remedy = Note, "Linux "+f.Kernel+" or newer has it; without, older means are used"
		}
	default:
		c.Level, c.Says = Note, "could not tell: "+f.Err.Error()
	}
	return c
}

// surroundings are file systems that some options need.
func surroundings() []Check {
	bpffs := Check{Name: "bpf file system", Level: OK, Says: "mounted at /sys/fs/bpf: circuits can outlive the agent (--bpffs)"}
	var st unix.Statfs_t
	if err := unix.Statfs("/sys/fs/bpf", &st); err != nil || st.Type != unix.BPF_FS_MAGIC {
		bpffs.Level, bpffs.Says = Note, "not mounted at /sys/fs/bpf: --bpffs cannot be used there"
		bpffs.Remedy = "mount -t bpf bpf /sys/fs/bpf"
	}
	groups := Check{Name: "cgroup v2", Level: OK}
	if root, err := cgroup.Root(); err == nil {
		groups.Says = "at " + root
	} else {
		groups.Level, groups.Says = Note, err.Error()
		groups.Remedy = "without it the node's own health checks cannot be told from clients"
	}
	return []Check{bpffs, groups}
}

// NoAgent says that none answers. One that listens and does not answer in time is a failure.
func NoAgent(err error) Check {
	c := Check{Name: "agent", Level: Note, Says: err.Error()}
	if errors.Is(err, control.ErrNoAnswer) {
		c.Level = Fail
	}
	return c
}

// Agent checks the status of an agent.
func Agent(s *control.Status) []Check {
	a := &s.Agent
	all := []Check{{Name: "agent", Level: OK, Says: fmt.Sprintf("%s, for %s; %d circuits", a.Version, console.Age(s.Time.Sub(a.Started)), a.Circuits)}}
	if !a.Ready {
		all[0].Level, all[0].Says = Fail, "not ready: "+a.WaitsFor
	}
	all = append(all, reload(a), ring(a), room("connections", a.Flows, a.FlowsLimit, "--max-flows"),
		room("circuits", uint64(a.Circuits), uint64(a.CircuitsLimit), "--max-circuits"))
	if a.LeaseExpired > 0 {
		all = append(all, Check{Name: "lease", Level: Note, Says: fmt.Sprintf("%d clients were let through because the agent was late", a.LeaseExpired),
			Remedy: "give the agent CPU time, or a longer --lease"})
	}
	if a.StateError != "" {
		all = append(all, Check{Name: "state file", Level: Fail, Says: "not written since " + a.StateBehindSince.Local().Format(time.DateTime) + ": " + a.StateError,
			Remedy: "see the disk of --state-dir; until then a restart forgets who forced a circuit, and backoff steps"})
	}
	all = append(all, lost(a.Lost)...)
	for _, i := range s.Interfaces {
		all = append(all, iface(i))
	}
	for i := range s.Policies {
		all = append(all, policy(&s.Policies[i]))
		all = append(all, requests(&s.Policies[i])...)
	}
	for _, src := range s.Sources {
		all = append(all, source(src, s.Time))
	}
	return all
}

func reload(a *control.AgentInfo) Check {
	if a.ReloadError == "" {
		return Check{Name: "policies", Level: OK, Says: "in force since " + a.PoliciesLoaded.Local().Format(time.DateTime)}
	}
	return Check{Name: "policies", Level: Fail, Says: "the last reload failed, those of " + a.PoliciesLoaded.Local().Format(time.DateTime) + " stay in force: " + a.ReloadError,
		Remedy: "cbagent check PATH says what is wrong with the file"}
}

// lost are the sinks that missed records.
func lost(by map[string]uint64) []Check {
	var all []Check
	for _, sink := range []struct{ name, says, remedy string }{
		{view.SinkHistory, "%d records were not written to its file in time", "see the disk of --state-dir"},
		{view.SinkLog, "%d lines were dropped", "see who reads the agent's standard error: a pipe that is full, a slow disk"},
		{view.SinkNotice, "%d records were neither logged nor notified", "too many circuits change at once: cbagent events has the last ones"},
		{view.SinkKubernetes, "%d events were not sent", "see whether the API server answers, and may be asked: the agent's log says it"},
	} {
		if n := by[sink.name]; n > 0 {
			all = append(all, Check{Name: sink.name, Level: Note, Says: fmt.Sprintf(sink.says, n), Remedy: sink.remedy})
		}
	}
	return all
}

func ring(a *control.AgentInfo) Check {
	if a.RingLost == 0 {
		return Check{Name: "event ring", Level: OK, Says: fmt.Sprintf("%d events, none lost", a.RingEvents)}
	}
	return Check{Name: "event ring", Level: Note, Says: fmt.Sprintf("%d events, %d lost; windows were made whole from totals", a.RingEvents, a.RingLost),
		Remedy: "give the agent CPU time"}
}

func room(what string, used, most uint64, flag string) Check {
	c := Check{Name: "room for " + what, Level: OK, Says: fmt.Sprintf("%d of %d", used, most)}
	if most > 0 && used >= most*9/10 {
		c.Level, c.Remedy = Note, "raise "+flag
	}
	if most > 0 && used >= most {
		c.Level = Fail
	}
	return c
}

func iface(i control.Interface) Check {
	c := Check{Name: "interface " + i.Name, Level: OK}
	side := ""
	if i.Uplink {
		side = ", uplink"
	}
	switch {
	case i.Attached:
		c.Says = "enforced (" + i.Mode + side + "): " + i.Why
	case i.Wanted:
		c.Level, c.Says, c.Remedy = Fail, "NOT enforced: "+i.Why, "the agent tries again; its log has the kernel's error"
	default:
		c.Says = "not enforced: " + i.Why
	}
	return c
}

func policy(p *control.Policy) Check {
	c := Check{Name: "policy " + p.Name, Level: OK, Says: fmt.Sprintf("%s, %s; %d backends, %d ejected", p.Mode, p.Direction, p.Backends, p.Ejected)}
	switch {
	case p.DiscoveryError != "":
		c.Level, c.Says = Fail, c.Says+"; "+p.DiscoveryError
	case !p.DiscoveryComplete:
		c.Level, c.Says = Note, c.Says+"; not all sources have answered yet"
	case p.Backends == 0:
		c.Level, c.Says = Note, c.Says+"; nothing is protected"
	}
	return c
}

func source(src control.Source, now time.Time) Check {
	c := Check{Name: src.Kind + " " + src.Name, Level: OK, Says: fmt.Sprintf("%d answers", src.Answers)}
	if src.Error != "" {
		c.Level, c.Says = Fail, src.Error
		if src.Stale {
			c.Level, c.Says = Note, fmt.Sprintf("%s; an answer of %s ago is in use", src.Error, console.Age(now.Sub(src.LastSuccess)))
		}
	}
	return c
}

// Socket looks at the control socket's directory, for when no agent answers.
func Socket(path string) Check {
	c := Check{Name: "control socket", Level: OK, Says: path}
	if _, err := os.Stat(path); err == nil {
		c.Level, c.Says = Note, path+" is there, but nobody listens: an agent has crashed; the next one replaces it"
	} else if _, err := os.Stat(filepath.Dir(path)); err != nil {
		c.Says = path + " is not there; the agent makes it"
	}
	return c
}
