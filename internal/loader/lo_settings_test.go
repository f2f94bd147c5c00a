package loader

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/tables"
)

// settingsOfLo reads what the programs need of lo, in the namespace of the calling thread.
func settingsOfLo(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, s := range answerSettings {
		value, err := os.ReadFile("/proc/sys/net/ipv4/conf/lo/" + s.String())
		if err != nil {
			t.Fatal(err)
		}
		all[s.String()] = strings.TrimSpace(string(value))
	}
	return all
}

func wantSettings(t *testing.T, accept, route string) {
	t.Helper()
	if diff := cmp.Diff(map[string]string{"accept_local": accept, "route_localnet": route}, settingsOfLo(t)); diff != "" {
		t.Errorf("settings of lo (-want +got):\n%s", diff)
	}
}

func putBackend(t *testing.T, d *Datapath, at string, flags tables.BackendFlags) tables.Backend {
	t.Helper()
	b := tables.Backend{Addr: netip.MustParseAddrPort(at)}
	if err := d.PutBackend(b, 1, flags); err != nil {
		t.Fatal(err)
	}
	return b
}

func attachLo(t *testing.T, d *Datapath) *Hook {
	t.Helper()
	h, err := d.Attach("lo")
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestLoIsSetWhileABackendIsOnThisHost(t *testing.T) {
	for _, tc := range []struct {
		at     string
		flags  tables.BackendFlags
		onHost bool
	}{
		{"192.0.2.1:80", tables.OnHost, true}, {"[2001:db8::1]:80", tables.OnHost, true}, {"127.0.0.2:80", 0, true}, {"[::1]:80", 0, true},
		{"192.0.2.1:80", 0, false}, {"192.0.2.1:80", tables.LocalPod, false},
	} {
		t.Run(tc.at, func(t *testing.T) {
			inNamespace(t, func(*netlab.Namespace) {
				d := load(t, small)
				during := "0"
				if tc.onHost {
					during = "1"
				}
				wantOn := func(want bool) {
					t.Helper()
					if got := node(t, d).Flags&uint32(bpf.CNodeFlagNODE_NAT_ON_LO) != 0; got != want {
						t.Errorf("the programs look through NAT: %v, want %v", got, want)
					}
				}
				h := attachLo(t, d)
				wantSettings(t, "0", "0")
				wantOn(false)
				b := putBackend(t, d, tc.at, tc.flags)
				wantSettings(t, during, during)
				wantOn(tc.onHost)
				if err := d.RemoveBackend(b); err != nil {
					t.Fatal(err)
				}
				wantSettings(t, "0", "0")
				wantOn(false)

				if err := d.Detach(h.Index); err != nil {
					t.Fatal(err)
				}
				putBackend(t, d, tc.at, tc.flags)
				wantSettings(t, "0", "0")
				wantOn(false)
				attachLo(t, d)
				wantSettings(t, during, during)
				wantOn(tc.onHost)
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
				wantSettings(t, "0", "0")
			})
		})
	}
}

func TestSettingsOfOthersStay(t *testing.T) {
	inNamespace(t, func(ns *netlab.Namespace) {
		if err := ns.Sysctl("net.ipv4.conf.lo.accept_local", "1"); err != nil {
			t.Fatal(err)
		}
		d := load(t, small)
		attachLo(t, d)
		putBackend(t, d, "127.0.0.1:80", 0)
		wantSettings(t, "1", "1")
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		wantSettings(t, "1", "0")
	})
}

func TestSettingsAreKept(t *testing.T) {
	inNamespace(t, func(ns *netlab.Namespace) {
		d := load(t, small)
		d.KeepNAT() // nothing is attached
		attachLo(t, d)
		d.KeepNAT() // no backend
		wantSettings(t, "0", "0")
		putBackend(t, d, "127.0.0.1:80", 0)
		for _, s := range answerSettings {
			if err := ns.Sysctl("net.ipv4.conf.lo."+s.String(), "0"); err != nil {
				t.Fatal(err)
			}
		}
		wantSettings(t, "0", "0")
		d.KeepNAT()
		wantSettings(t, "1", "1")
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		wantSettings(t, "0", "0")
	})
}

func TestPinnedSettingsOfLo(t *testing.T) {
	opts := small
	opts.PinPath, opts.Clsact = bpffs(t), true
	inNamespace(t, func(ns *netlab.Namespace) {
		run := func(o Options, backend bool) *Datapath {
			t.Helper()
			d := load(t, o)
			attachLo(t, d)
			if backend {
				putBackend(t, d, "127.0.0.1:80", 0)
			}
			return d
		}
		close := func(d *Datapath) {
			t.Helper()
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		}
		close(run(opts, true))
		wantSettings(t, "1", "1") // the programs stay, and so does what they need

		d := run(opts, false) // the backend is inherited
		wantSettings(t, "1", "1")
		for _, b := range d.AdoptedBackends() {
			if err := d.RemoveBackend(b.Backend); err != nil {
				t.Fatal(err)
			}
		}
		wantSettings(t, "0", "0")
		close(d)
		close(run(opts, true))

		// An agent whose maps have another layout.
		other := opts
		other.Circuits = 32
		close(run(other, false))
		wantSettings(t, "0", "0")

		// One that is not attached to lo.
		close(run(other, true))
		d = load(t, other)
		wantSettings(t, "1", "1")
		if err := d.Prune(); err != nil {
			t.Fatal(err)
		}
		wantSettings(t, "0", "0")
		close(d)

		close(run(other, true))
		wantSettings(t, "1", "1")
		removed, err := DetachAll(opts.PinPath)
		if err != nil {
			t.Fatal(err)
		}
		if said := strings.Join(removed, "\n"); !strings.Contains(said, "lo's accept_local") || !strings.Contains(said, "lo's route_localnet") {
			t.Errorf("removed:\n%s\nwithout the settings", said)
		}
		wantSettings(t, "0", "0")
	})
}
