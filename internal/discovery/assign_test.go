package discovery

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func found(all ...string) []Backend {
	var backends []Backend
	for _, a := range all {
		backends = append(backends, Backend{Addr: addr(a), Kind: KindAddress, Source: a})
	}
	return backends
}

// render makes a delta easy to compare: -policy/addr, +policy/addr, ~policy/addr, !conflict, =resolved.
func render(d Delta) string {
	var all []string
	for _, o := range d.Removed {
		all = append(all, fmt.Sprintf("-%s/%v", o.Policy, o.Backend.Addr))
	}
	for _, o := range d.Added {
		all = append(all, fmt.Sprintf("+%s/%v", o.Policy, o.Backend.Addr))
	}
	for _, o := range d.Changed {
		all = append(all, fmt.Sprintf("~%s/%v", o.Policy, o.Backend.Addr))
	}
	for _, c := range d.Conflicts {
		all = append(all, fmt.Sprintf("!%v:%s>%s", c.Addr, c.Winner, strings.Join(c.Losers, ",")))
	}
	for _, a := range d.Resolved {
		all = append(all, fmt.Sprintf("=%v", a))
	}
	return strings.Join(all, " ")
}

func TestAssigner(t *testing.T) {
	const x, y, z = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"
	var a Assigner
	for i, step := range []struct {
		what string
		do   func() Delta
		want string
	}{
		{"two policies", func() Delta { return a.SetPolicies([]string{"first", "second"}) }, ""},
		{"the second claims two", func() Delta { return a.Set("second", found(x, y)) }, "+second/10.0.0.1:80 +second/10.0.0.2:80"},
		{"the same again", func() Delta { return a.Set("second", found(y, x)) }, ""},
		{"the first claims one of them", func() Delta { return a.Set("first", found(x)) },
			"-second/10.0.0.1:80 +first/10.0.0.1:80 !10.0.0.1:80:first>second"},
		{"the conflict is reported once", func() Delta { return a.Set("first", found(x, z)) }, "+first/10.0.0.3:80"},
		{"the first releases its claim", func() Delta { return a.Set("first", found(z)) }, "-first/10.0.0.1:80 +second/10.0.0.1:80 =10.0.0.1:80"},
		{"a mapped spelling of the same", func() Delta { return a.Set("first", found(z, "[::ffff:10.0.0.1]:80")) },
			"-second/10.0.0.1:80 +first/10.0.0.1:80 !10.0.0.1:80:first>second"},
		{"the other order", func() Delta { return a.SetPolicies([]string{"second", "first"}) },
			"-first/10.0.0.1:80 +second/10.0.0.1:80 !10.0.0.1:80:second>first"},
		{"another port is another backend", func() Delta { return a.Set("first", found(z, "10.0.0.1:81")) },
			"+first/10.0.0.1:81 =10.0.0.1:80"},
		{"something else about one is new", func() Delta {
			return a.Set("first", []Backend{{Addr: addr(z), Kind: KindService, Source: "shop/orders:http"}, found("10.0.0.1:81")[0]})
		}, "~first/10.0.0.3:80"},
		{"one is learned", func() Delta { return a.Learn("second", "10.0.0.0/24:80", addr("10.0.0.9:80")) }, "+second/10.0.0.9:80"},
		{"and again", func() Delta { return a.Learn("second", "10.0.0.0/24:80", addr("10.0.0.9:80")) }, ""},
		{"discovery does not touch it", func() Delta { return a.Set("second", nil) }, "-second/10.0.0.1:80 -second/10.0.0.2:80"},
		{"found and learned by the same policy is no conflict", func() Delta { return a.Set("second", found("10.0.0.9:80")) }, "~second/10.0.0.9:80"},
		{"and found no more", func() Delta { return a.Set("second", nil) }, "~second/10.0.0.9:80"},
		{"it is forgotten", func() Delta { return a.Forget("second", addr("10.0.0.9:80")) }, "-second/10.0.0.9:80"},
		{"twice", func() Delta { return a.Forget("second", addr("10.0.0.9:80")) }, ""},
		{"a late update of a policy that is gone", func() Delta { return a.Set("third", found(y)) }, ""},
		{"a policy goes", func() Delta { return a.SetPolicies([]string{"second"}) }, "-first/10.0.0.1:81 -first/10.0.0.3:80"},
	} {
		if got := render(step.do()); got != step.want {
			t.Fatalf("step %d, %s: %q, want %q", i, step.what, got, step.want)
		}
	}
	if a.Len() != 0 || len(a.Conflicts()) != 0 {
		t.Fatalf("%d backends and %d conflicts are left", a.Len(), len(a.Conflicts()))
	}
}

// After any changes the assigner says the same as one that looks at everything anew, and its deltas lead there.
func TestAssignerAgainstTheWholeTruth(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	names := []string{"a", "b", "c", "d"}
	var a Assigner
	var order []string
	sets := make(map[string]map[netip.AddrPort]bool)
	learned := make(map[string]map[netip.AddrPort]bool)
	owners := make(map[netip.AddrPort]string)
	pick := func() netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(12))}), 80)
	}
	for step := range 5000 {
		policy := names[random.IntN(len(names))]
		known := slices.Contains(order, policy)
		var d Delta
		switch random.IntN(8) {
		case 0:
			order = nil
			for _, i := range random.Perm(len(names))[:random.IntN(len(names)+1)] {
				order = append(order, names[i])
			}
			for _, name := range names {
				if !slices.Contains(order, name) {
					delete(sets, name)
					delete(learned, name)
				}
			}
			d = a.SetPolicies(order)
		case 1, 2, 3, 4:
			set := make(map[netip.AddrPort]bool)
			for range random.IntN(6) {
				set[pick()] = true
			}
			if known {
				sets[policy] = set
			}
			var backends []Backend
			for at := range set {
				backends = append(backends, Backend{Addr: at, Kind: KindHost, Source: fmt.Sprint(random.IntN(2))})
			}
			d = a.Set(policy, backends)
		case 5, 6:
			at := pick()
			if known {
				if learned[policy] == nil {
					learned[policy] = make(map[netip.AddrPort]bool)
				}
				learned[policy][at] = true
			}
			d = a.Learn(policy, "10.0.0.0/24:80", at)
		case 7:
			at := pick()
			delete(learned[policy], at)
			d = a.Forget(policy, at)
		}
		for _, o := range d.Removed {
			if owners[o.Backend.Addr] != o.Policy {
				t.Fatalf("step %d: %v removed from %s, whose it was not", step, o.Backend.Addr, o.Policy)
			}
			delete(owners, o.Backend.Addr)
		}
		for _, o := range d.Added {
			if was, ok := owners[o.Backend.Addr]; ok {
				t.Fatalf("step %d: %v added to %s while it is of %s", step, o.Backend.Addr, o.Policy, was)
			}
			owners[o.Backend.Addr] = o.Policy
		}
		for _, o := range d.Changed {
			if owners[o.Backend.Addr] != o.Policy {
				t.Fatalf("step %d: %v of %s changed, whose it is not", step, o.Backend.Addr, o.Policy)
			}
		}
		truth, conflicts := make(map[netip.AddrPort]string), 0
		for i := range 12 {
			at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80)
			claims := 0
			for _, name := range order {
				if sets[name][at] || learned[name][at] {
					if claims++; claims == 1 {
						truth[at] = name
					}
				}
			}
			if claims > 1 {
				conflicts++
			}
		}
		if !maps.Equal(truth, owners) {
			t.Fatalf("step %d: the deltas lead to %v, the truth is %v", step, owners, truth)
		}
		for at, name := range truth {
			if got, ok := a.Owner(at); !ok || got.Policy != name {
				t.Fatalf("step %d: the owner of %v is %v, want %s", step, at, got, name)
			}
		}
		if a.Len() != len(truth) || len(a.All()) != len(truth) || len(a.Conflicts()) != conflicts {
			t.Fatalf("step %d: %d backends and %d conflicts, want %d and %d", step, a.Len(), len(a.Conflicts()), len(truth), conflicts)
		}
	}
}
