package operate

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/view"
)

// An operator's hand: what the commands say is what clients get.
func TestOverrides(t *testing.T) {
	s := newStage(t, 2, []string{"trip: [{consecutiveFailures: 5}]"})
	one := "orders/" + s.targets[0].String()
	got := func(backend int) string { return fmt.Sprint(s.load(backend, 1, 1).ByOutcome) }
	step := func(want string, args ...string) {
		t.Helper()
		stdout, stderr, code := s.run(args...)
		if code != 0 || stderr != "" || !strings.Contains(stdout, want) {
			t.Fatalf("%v: code %d, stdout %q, stderr %q; want %q", args, code, stdout, stderr, want)
		}
	}
	step(one+": closed -> forced-open until ", "open", one, "--for", "10m", "--reason", "disk")
	if got(0) != "map[503:1]" || got(1) != "map[200:1]" {
		t.Errorf("clients got %s and %s", got(0), got(1))
	}
	stdout, _, _ := s.run("status")
	for _, want := range []string{one + " is forced-open", "hand:  forced-open by root: disk (ends in 9m5", "undo:  cbagent auto " + one, "rejected"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("status says\n%s\nwithout %q", stdout, want)
		}
	}
	step(one+": forced-open -> closed", "close", one, "--reason", "disk is back")
	if got(0) != "map[200:1]" {
		t.Errorf("clients got %s", got(0))
	}
	step("stays closed (was closed already)", "close", one, "--reason", "again")
	step("nothing to take back", "auto", one, "--reason", "again")
	step("closed -> disabled\n", "disable", "orders", "--reason", "load test")
	step("disabled -> closed", "auto", "orders", "--reason", "over")
	step(one+": closed -> forced-open", "open", one, "--for", "1s", "--reason", "short")
	eventually(t, "the override ends by itself", func() bool { return got(0) == "map[200:1]" })

	stdout, _, _ = s.run("events", one)
	for _, want := range []string{
		"closed -> forced-open  manual by root: disk  until ", "forced-open -> closed  manual by root: disk is back",
		"closed -> disabled  manual by root: load test", "forced-open -> closed  deadline by root: short",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("events say\n%s\nwithout %q", stdout, want)
		}
	}
	if strings.Contains(stdout, s.targets[1].String()) {
		t.Errorf("events of %s tell of another:\n%s", one, stdout)
	}
}

// What is done to a policy also holds for a backend that comes later; one that leaves takes its override along, and the
// history says so.
func TestOverridesOfBackendsThatComeAndGo(t *testing.T) {
	s := newStage(t, 2, nil)
	s.writePolicy(s.targets[:1])
	status := func() control.Status {
		st, err := s.client.Status(soon(t), "")
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	eventually(t, "one backend is left", func() bool { return status().Policies[0].Backends == 1 })
	if _, stderr, code := s.run("open", "orders", "--reason", "maintenance"); code != 0 {
		t.Fatal(stderr)
	}
	s.writePolicy(s.targets)
	eventually(t, "the other one comes", func() bool { return status().Policies[0].Backends == 2 })
	for _, c := range status().Policies[0].Circuits {
		if c.State != "forced-open" || c.Override == nil || c.Override.Why != "maintenance" {
			t.Errorf("%s is %s, override %+v", c.Backend, c.State, c.Override)
		}
	}
	s.writePolicy(s.targets[:1])
	dropped := func() (all []netip.AddrPort) {
		err := s.client.Events(soon(t), "", 1000, false, func(r view.Record) error {
			if r.Kind == view.KindDroppedOverride && r.Why == "maintenance" && r.By == "root" {
				all = append(all, netip.MustParseAddrPort(r.Backend))
			}
			return nil
		}, func(uint64) {})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	eventually(t, "the dropped override is reported", func() bool { return len(dropped()) == 1 })
	if got := dropped()[0]; got != s.targets[1] {
		t.Errorf("the override of %s was dropped, want %s", got, s.targets[1])
	}
}

func TestNamesThatNothingHas(t *testing.T) {
	s := newStage(t, 1, nil)
	for _, c := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"status", "ordrs"}, "cbagent: no policy and no backend ordrs; nearest: orders\n", 5},
		{[]string{"events", "10.21.1.2:808"}, "cbagent: no policy and no backend 10.21.1.2:808; nearest: 10.21.1.2:8080\n", 5},
		{[]string{"open", "orders/10.21.1.3:8080", "--reason", "x"}, "cbagent: policy orders has no backend 10.21.1.3:8080; nearest: 10.21.1.2:8080\n", 5},
		{[]string{"close", "order/10.21.1.2:8080", "--reason", "x"}, "cbagent: no policy order; nearest: orders\n", 5},
		{[]string{"open", "orders"}, "cbagent: reason: say why, for those who read the history\n", 1},
		{[]string{"open", "orders", "--reason", "x", "--for", "1ms"}, "cbagent: for: must be between 1s and 8760h0m0s, got 0.001s\n", 1},
		{[]string{"policy", "zzz"}, "cbagent: no policy and no backend zzz\n", 5},
	} {
		stdout, stderr, code := s.run(c.args...)
		if stdout != "" || stderr != c.want || code != c.code {
			t.Errorf("%v: code %d, stdout %q, stderr %q; want code %d, %q", c.args, code, stdout, stderr, c.code, c.want)
		}
	}
}
