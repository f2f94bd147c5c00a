package operate

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/lab/agenttest"
	"github.com/cbagent/cbagent/internal/view"
)

// The socket of a killed agent is replaced; that of a living one is not; and the history goes on.
func TestSocketAndHistoryOutliveACrash(t *testing.T) {
	s := newStage(t, 1, nil)
	if _, stderr, code := s.run("open", "orders", "--reason", "before the crash"); code != 0 {
		t.Fatal(stderr)
	}
	err := agenttest.StartInVain(t, s.Node, loading, binary, "run", "--policy", s.policy, "--interface", "be*", "--control-socket", s.socket,
		"--metrics-address", "")
	if err == nil || !strings.Contains(err.Error(), "another agent answers there") {
		t.Errorf("a second agent on the same socket: %v", err)
	}
	eventually(t, "the history is on the disk", func() bool {
		data, err := os.ReadFile(filepath.Join(s.state, "history.jsonl"))
		return err == nil && bytes.Contains(data, []byte("before the crash"))
	})
	s.agent.Kill()
	if _, stderr, code := s.run("status"); code != 3 || !strings.Contains(stderr, "no agent answers at "+s.socket) {
		t.Errorf("status without an agent: code %d, %q", code, stderr)
	}
	if _, err := os.Lstat(s.socket); err != nil {
		t.Fatalf("the killed agent's socket: %v", err)
	}
	s.start()
	if _, stderr, code := s.run("open", "orders", "--reason", "after the crash"); code != 0 {
		t.Fatal(stderr)
	}
	var all []view.Record
	err = s.client.Events(soon(t), "", 1000, false, func(r view.Record) error {
		all = append(all, r)
		return nil
	}, func(uint64) {})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 2 || all[0].Why != "before the crash" || all[len(all)-1].Why != "after the crash" {
		t.Fatalf("history: %+v", all)
	}
	for i := range all {
		if all[i].Seq != uint64(i+1) {
			t.Errorf("record %d has number %d", i, all[i].Seq)
		}
	}
	if err := s.agent.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(s.socket); err == nil {
		t.Error("the socket is there after the agent has ended")
	}
}

// Agents of other network namespaces are no rivals: one that finds the name of its socket taken works without a socket, and
// so it does without an address for metrics that nobody asked for.
func TestAgentsOfOtherNamespaces(t *testing.T) {
	s := newStage(t, 1, nil)
	taken, err := s.Client.Listen(netip.MustParseAddrPort("127.0.0.1:9464"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	other := agenttest.Start(t, s.Client, binary, "run", "--policy", s.policy, "--interface", "eth0", "--control-socket", s.socket)
	other.Expect("serve metrics: listen tcp 127.0.0.1:9464: ", "control socket .* an agent of another network namespace answers there")
	other.WithoutMetrics()
	await(t, other)
	if err := other.Stop(); err != nil {
		t.Error(err)
	}
	if stdout, stderr, code := s.run("status"); code != 0 || !strings.Contains(stdout, s.targets[0].String()) {
		t.Errorf("the first agent's status: code %d, %q, %q", code, stdout, stderr)
	}
	err = agenttest.StartInVain(t, s.Client, loading, binary, "run", "--policy", s.policy, "--interface", "eth0", "--control-socket", "",
		"--metrics-address", "127.0.0.1:9464")
	if err == nil || !strings.Contains(err.Error(), "serve metrics: ") {
		t.Errorf("an address for metrics that was asked for, and is taken: %v", err)
	}
}

// A user who may not speak to the agent is told who may.
func TestNotPermitted(t *testing.T) {
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	var uid, gid uint32
	if _, err := fmt.Sscan(nobody.Uid+" "+nobody.Gid, &uid, &gid); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, group string
		groups      []uint32
		want        string
		code        int
	}{
		{"root only", "", nil, "it is for root; try sudo, or let the agent admit a group with --control-group\n", 4},
		{"of another group", "daemon", nil, "it is for root and the members of group daemon, and nobody is none\n", 4},
		{"of the group", "daemon", []uint32{1}, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(dir, "cb"+c.group+fmt.Sprint(len(c.groups))+".sock")
			s := newStage(t, 1, nil, "--control-socket", path, "--control-group", c.group)
			cmd := exec.CommandContext(soon(t), binary, "status", "--control-socket", path)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: c.groups}}
			var out, errs bytes.Buffer
			cmd.Stdout, cmd.Stderr, cmd.Dir = &out, &errs, "/"
			if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
				t.Fatal(err)
			}
			if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.HasSuffix(errs.String(), c.want) {
				t.Errorf("code %d, %q; want %d, ... %q", code, &errs, c.code, c.want)
			}
			if c.code == 0 && !strings.Contains(out.String(), s.targets[0].String()) {
				t.Errorf("status says %q", &out)
			}
		})
	}
}

// A hundred clients at once get what they ask for.
func TestManyClients(t *testing.T) {
	s := newStage(t, 3, nil)
	var all sync.WaitGroup
	problems := make(chan error, 200)
	for i := range 100 {
		all.Go(func() {
			c := control.NewClient(s.socket)
			defer c.Close()
			for range 3 {
				st, err := c.Status(soon(t), "orders")
				if err == nil && (len(st.Policies) != 1 || len(st.Policies[0].Circuits) != 3) {
					err = fmt.Errorf("status of %d policies", len(st.Policies))
				}
				if err != nil {
					problems <- err
					return
				}
			}
			if i%10 == 0 {
				action := []string{control.ActionOpen, control.ActionClose}[i/10%2]
				if _, err := c.Override(soon(t), control.Override{Action: action, Target: "orders", Reason: fmt.Sprint(i)}); err != nil {
					problems <- err
				}
			}
		})
	}
	all.Wait()
	close(problems)
	for err := range problems {
		t.Error(err)
	}
}

// A reader that does not read costs the agent nothing: circuits open as ever, and those who read see it.
func TestReaderThatDoesNotRead(t *testing.T) {
	s := newStage(t, 1, []string{"trip: [{consecutiveFailures: 1}]", "mode: monitor", "open: {duration: 1ms, backoff: none}", "halfOpen: {calls: 0}"})
	for range 4 {
		conn, err := net.Dial("unix", s.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := conn.Write([]byte("GET /v1/trace HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the readers are there", func() bool { return s.scrape()["cbagent_trace_readers"] == 4 })
	ctx, stop := context.WithCancel(soon(t))
	followed, seen := make(chan error, 1), 0
	go func() {
		followed <- s.client.Events(ctx, "", 0, true, func(r view.Record) error {
			if seen++; seen == 3 {
				stop()
			}
			return nil
		}, func(uint64) {})
	}()
	eventually(t, "the follower is there", func() bool { return s.scrape()["cbagent_event_readers"] == 1 })
	// Enough for the buffers of the readers, of the sockets and of the agent.
	const requests = 30000
	s.load(0, requests, 8)
	s.servers[0].SetDecide(nil500)
	failed := 0
	var end error
	eventually(t, "the follower sees the circuit open and close", func() bool {
		s.load(0, 10, 1)
		failed += 10
		select {
		case end = <-followed:
			return true
		default:
			return false
		}
	})
	if end != nil || seen < 3 {
		t.Errorf("the follower saw %d transitions, %v", seen, end)
	}
	got := s.scrape()
	if got["cbagent_event_readers_dropped_total"] == 0 {
		t.Error("nothing was dropped: the test does not reach what it is about")
	}
	if got["cbagent_ring_events_lost_total"] != 0 {
		t.Errorf("%g events were lost in the ring", got["cbagent_ring_events_lost_total"])
	}
	if n := got.of("cbagent_admitted_total", s.targets[0], ""); n != float64(requests+failed) {
		t.Errorf("%g admitted, want %d", n, requests+failed)
	}
}
