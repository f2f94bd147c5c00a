package attach

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/ifaces"
	"github.com/cbagent/cbagent/internal/loader"
	"github.com/cbagent/cbagent/internal/view"
	"github.com/google/go-cmp/cmp"
)

var errFake = errors.New("the kernel rejects it")

// datapath is a Datapath in memory.
type datapath struct {
	hooks     map[int]loader.Hook
	xdp       map[int]loader.XDPMode
	uplinks   []int
	forgotten []int
	indices   map[string]int
	fail      map[string]bool // names and methods
	tries     map[string]int  // of Attach and AttachXDP, by method and name
}

func newDatapath(links ...ifaces.Link) *datapath {
	d := &datapath{
		hooks: map[int]loader.Hook{}, xdp: map[int]loader.XDPMode{}, indices: map[string]int{}, fail: map[string]bool{},
		tries: map[string]int{},
	}
	for _, l := range links {
		d.indices[l.Name] = l.Index
	}
	return d
}

func (d *datapath) Attach(name string) (*loader.Hook, error) {
	d.tries["attach "+name]++
	if d.fail[name] {
		return nil, errFake
	}
	h := loader.Hook{Name: name, Index: d.indices[name], Mode: "tcx"}
	d.hooks[h.Index] = h
	return &h, nil
}

func (d *datapath) Detach(index int) error {
	delete(d.hooks, index)
	if d.fail["detach"] {
		return errFake
	}
	return nil
}

func (d *datapath) AttachXDP(name string, mode loader.XDPMode) (loader.XDPMode, error) {
	d.tries["xdp "+name]++
	if d.fail["xdp "+name] {
		return "", errFake
	}
	d.xdp[d.indices[name]] = mode
	return mode, nil
}

func (d *datapath) DetachXDP(index int) error {
	delete(d.xdp, index)
	if d.fail["detach xdp"] {
		return errFake
	}
	return nil
}

func (d *datapath) XDPModes() map[int]loader.XDPMode { return maps.Clone(d.xdp) }

func (d *datapath) SetUplinks(indices []int) error {
	if d.fail["uplinks"] {
		return errFake
	}
	d.uplinks = slices.Sorted(slices.Values(indices))
	return nil
}

func (d *datapath) ForgetInterface(index int, _ time.Duration) (loader.SweepResult, error) {
	d.forgotten = append(d.forgotten, index)
	if d.fail["forget"] {
		return loader.SweepResult{}, errFake
	}
	return loader.SweepResult{}, nil
}

func (d *datapath) Hooks() []loader.Hook { return slices.Collect(maps.Values(d.hooks)) }

// watcher is a Watcher with the events that it is given.
type watcher struct {
	events    chan ifaces.Event
	picks     []ifaces.Pick
	unmatched []string
}

func (w *watcher) Events() <-chan ifaces.Event { return w.events }
func (w *watcher) Status() ifaces.Status {
	return ifaces.Status{Picks: w.picks, Unmatched: w.unmatched}
}

// watch returns a watcher that lists the picks.
func watch(picks ...ifaces.Pick) *watcher {
	w := &watcher{events: make(chan ifaces.Event, len(picks)+1), picks: picks}
	for _, p := range picks {
		w.events <- ifaces.Event{Op: ifaces.Added, Pick: p}
	}
	w.events <- ifaces.Event{Op: ifaces.Synced}
	return w
}

var (
	eth0  = ifaces.Link{Index: 2, Name: "eth0", MAC: "02:00:00:00:00:02", Encap: "ether"}
	eth1  = ifaces.Link{Index: 3, Name: "eth1", MAC: "02:00:00:00:00:03", Encap: "ether"}
	veth0 = ifaces.Link{Index: 4, Name: "veth0", Kind: "veth", MAC: "02:00:00:00:00:04", Encap: "ether"}
)

func logTo(b *bytes.Buffer) *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

func TestSync(t *testing.T) {
	d := newDatapath(eth0, veth0)
	i := New(d, slog.New(slog.DiscardHandler), "")
	if got := i.View(); len(got) != 0 {
		t.Errorf("before it starts: %+v", got)
	}
	uplink := ifaces.Pick{Link: eth0, Attach: true, Uplink: true}
	pod := ifaces.Pick{Link: veth0, Attach: true}
	off := ifaces.Pick{Link: eth1, Uplink: true}
	if err := i.Sync(watch(uplink, pod, off)); err != nil {
		t.Fatal(err)
	}
	if got := i.Names(); !slices.Equal(got, []string{"eth0", "veth0"}) {
		t.Errorf("attached to %v", got)
	}
	if !slices.Equal(d.uplinks, []int{2, 3}) {
		t.Errorf("the uplinks are %v", d.uplinks)
	}
	for index, want := range map[int]bool{2: true, 3: false, 4: true, 9: false} {
		if i.Answers(index) != want {
			t.Errorf("interface %d: answers %v", index, !want)
		}
	}
	want := []view.Interface{
		{Pick: uplink, Attached: true, Mode: "tcx"}, {Pick: pod, Attached: true, Mode: "tcx"}, {Pick: off},
	}
	if diff := cmp.Diff(want, i.View()); diff != "" {
		t.Error(diff)
	}
}

// A start fails for a name that does not exist and for programs that cannot be attached, and names them all.
func TestSyncFails(t *testing.T) {
	d := newDatapath(eth0, eth1)
	d.fail["eth1"] = true
	w := watch(ifaces.Pick{Link: eth0, Attach: true}, ifaces.Pick{Link: eth1, Attach: true})
	w.unmatched = []string{"eth9", "cali*", ifaces.Auto}
	err := New(d, slog.New(slog.DiscardHandler), "").Sync(w)
	if !errors.Is(err, errFake) || !strings.Contains(err.Error(), "no such interface: eth9 (") {
		t.Errorf("got %v; want eth9 and %v", err, errFake)
	}
	closed := &watcher{events: make(chan ifaces.Event)}
	close(closed.events)
	if err := New(d, slog.New(slog.DiscardHandler), "").Sync(closed); err == nil {
		t.Error("no error from a watcher that has ended")
	}
	if err := New(d, slog.New(slog.DiscardHandler), "").sync(&watcher{}, time.Millisecond); err == nil {
		t.Error("no error from a watcher that does not list anything")
	}
}

// An interface that cannot be attached to is tried again until it works, and logged once.
func TestRetry(t *testing.T) {
	var log bytes.Buffer
	d := newDatapath(eth0)
	d.fail["eth0"] = true
	i := New(d, logTo(&log), "")
	i.Apply(ifaces.Event{Op: ifaces.Added, Pick: ifaces.Pick{Link: eth0, Attach: true}})
	for range 3 {
		i.Retry()
	}
	if i.Answers(eth0.Index) {
		t.Error("the programs answer on an interface to which they are not attached")
	}
	if n := strings.Count(log.String(), "cannot attach to the interface"); n != 1 || d.tries["attach eth0"] != 4 {
		t.Errorf("%d attempts, logged %d times; want 4 and once", d.tries["attach eth0"], n)
	}
	d.fail["eth0"] = false
	i.Retry()
	i.Retry()
	if !i.Answers(eth0.Index) || d.tries["attach eth0"] != 5 {
		t.Errorf("answers %v after %d attempts; want true after 5", i.Answers(eth0.Index), d.tries["attach eth0"])
	}
}

// What an interface had attached goes with it, or with the choice of it; its connections end, unless it is back by then.
// The name of a chosen interface may be another's by the time of attaching. That one is left alone, unless it is chosen, too.
func TestNameOfAnother(t *testing.T) {
	for name, chosen := range map[string]bool{"not chosen": false, "chosen": true} {
		t.Run(name, func(t *testing.T) {
			link := ifaces.Link{Name: "eth0", Index: 2}
			other := ifaces.Link{Name: "eth0", Index: 3}
			d := newDatapath(other)
			i := New(d, slog.New(slog.DiscardHandler), "")
			if chosen {
				i.Apply(ifaces.Event{Op: ifaces.Added, Pick: ifaces.Pick{Link: other, Attach: true}})
			}
			i.Apply(ifaces.Event{Op: ifaces.Added, Pick: ifaces.Pick{Link: link, Attach: true}})
			if _, attached := d.hooks[3]; attached != chosen {
				t.Errorf("attached to the other interface: %v, want %v", attached, chosen)
			}
			if i.Answers(2) {
				t.Error("the programs answer on an interface that is gone")
			}
		})
	}
}

// An interface that is not to be attached any more is not tried again.
func TestRetryForgets(t *testing.T) {
	link := ifaces.Link{Name: "eth0", Index: 2}
	d := newDatapath(link)
	d.fail["eth0"] = true
	i := New(d, slog.New(slog.DiscardHandler), "")
	i.Apply(ifaces.Event{Op: ifaces.Added, Pick: ifaces.Pick{Link: link, Attach: true}})
	i.Apply(ifaces.Event{Op: ifaces.Changed, Pick: ifaces.Pick{Link: link, Uplink: true}})
	d.fail["eth0"] = false
	i.Retry()
	if len(d.hooks) != 0 {
		t.Errorf("%v is attached", d.hooks)
	}
}

func TestInterfacesThatGo(t *testing.T) {
	var log bytes.Buffer
	d := newDatapath(eth0, eth1, veth0)
	i := New(d, logTo(&log), loader.XDPGeneric)
	i.UseXDP(true)
	for _, l := range []ifaces.Link{eth0, eth1, veth0} {
		i.Apply(ifaces.Event{Op: ifaces.Added, Pick: ifaces.Pick{Link: l, Attach: true, Uplink: true}})
	}
	i.Apply(ifaces.Event{Op: ifaces.Removed, Pick: ifaces.Pick{Link: eth0, Attach: true, Uplink: true}})
	i.Apply(ifaces.Event{Op: ifaces.Removed, Pick: ifaces.Pick{Link: eth1, Attach: true, Uplink: true}})
	i.Apply(ifaces.Event{Op: ifaces.Added, Pick: ifaces.Pick{Link: eth1, Attach: true, Uplink: true}})
	i.Apply(ifaces.Event{Op: ifaces.Changed, Pick: ifaces.Pick{Link: veth0}})
	if got := i.Names(); !slices.Equal(got, []string{"eth1"}) || !maps.Equal(d.xdp, map[int]loader.XDPMode{3: loader.XDPGeneric}) {
		t.Errorf("attached to %v, XDP to %v; want eth1 only", got, d.xdp)
	}
	if !slices.Equal(d.uplinks, []int{3}) {
		t.Errorf("the uplinks are %v", d.uplinks)
	}
	d.fail["forget"] = true
	i.ForgetGone(time.Minute)
	i.ForgetGone(time.Minute)
	if !slices.Equal(d.forgotten, []int{2}) {
		t.Errorf("connections of interfaces %v are ended, want those of 2, once", d.forgotten)
	}
	if !strings.Contains(log.String(), "cannot end the connections") {
		t.Errorf("the log does not say what failed: %s", &log)
	}
	d.fail["detach"], d.fail["detach xdp"] = true, true
	i.Apply(ifaces.Event{Op: ifaces.Removed, Pick: ifaces.Pick{Link: eth1}})
	i.Apply(ifaces.Event{Op: ifaces.Changed, Pick: ifaces.Pick{Link: veth0}})
	for _, want := range []string{"cannot detach from the interface", "cannot detach XDP"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q: %s", want, &log)
		}
	}
}

// Uplinks that could not be written are written with the next change.
func TestUplinksAgain(t *testing.T) {
	d := newDatapath(eth0, eth1)
	d.fail["uplinks"] = true
	i := New(d, slog.New(slog.DiscardHandler), "")
	i.Apply(ifaces.Event{Op: ifaces.Added, Pick: ifaces.Pick{Link: eth0, Uplink: true}})
	d.fail["uplinks"] = false
	i.Apply(ifaces.Event{Op: ifaces.Added, Pick: ifaces.Pick{Link: eth1}})
	if !slices.Equal(d.uplinks, []int{2}) {
		t.Errorf("the uplinks are %v", d.uplinks)
	}
}

// XDP is on uplinks that are attached to, while a policy can use it, and by itself on no veth.
func TestUseXDP(t *testing.T) {
	tun := ifaces.Link{Index: 5, Name: "tun0"}
	links := []ifaces.Link{eth0, eth1, veth0, tun}
	for name, tc := range map[string]struct {
		mode   loader.XDPMode
		useful bool
		want   []int
	}{
		"never":      {"", true, nil},
		"of no use":  {loader.XDPNative, false, nil},
		"auto":       {loader.XDPAuto, true, []int{2}},
		"named mode": {loader.XDPGeneric, true, []int{2, 4}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDatapath(links...)
			i := New(d, slog.New(slog.DiscardHandler), tc.mode)
			for _, l := range links {
				i.Apply(ifaces.Event{Op: ifaces.Added, Pick: ifaces.Pick{Link: l, Attach: l != eth1, Uplink: true}})
			}
			i.UseXDP(tc.useful)
			if got := slices.Sorted(maps.Keys(d.xdp)); !slices.Equal(got, tc.want) {
				t.Errorf("XDP is on %v, want %v", got, tc.want)
			}
			i.UseXDP(tc.useful)
			if n := d.tries["xdp eth0"]; n > 1 {
				t.Errorf("it is attached %d times", n)
			}
			i.UseXDP(false)
			if len(d.xdp) != 0 {
				t.Errorf("XDP stays on %v", d.xdp)
			}
		})
	}
}

// Where XDP cannot be attached it is not tried again and again.
func TestNoXDP(t *testing.T) {
	d := newDatapath(eth0)
	d.fail["xdp eth0"] = true
	i := New(d, slog.New(slog.DiscardHandler), loader.XDPAuto)
	i.Apply(ifaces.Event{Op: ifaces.Added, Pick: ifaces.Pick{Link: eth0, Attach: true, Uplink: true}})
	for range 3 {
		i.UseXDP(true)
	}
	if d.tries["xdp eth0"] != 1 {
		t.Errorf("%d attempts, want one", d.tries["xdp eth0"])
	}
}
