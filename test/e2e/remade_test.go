package e2e

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// A policy that changes its scope, protocol or direction begins anew, with the same backends.
func TestPolicyThatBecomesAnotherKeepsItsBackends(t *testing.T) {
	t.Parallel()
	star := newStar(t, netlab.Options{Backends: 1})
	at := netip.AddrPortFrom(star.Backends[0].IPv4, port)
	serve(t, star.Backends[0].Namespace, at)
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write := func(keys ...string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(policyOf([]netip.AddrPort{at}, keys...)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write()
	startReady(t, star.Node, binary, "run", "--policy", path, "--interface", "be*")
	wantStatus(t, call(t, client(t, star.Client, at)), 200)
	write("scope: policy", "mode: forced-open")
	eventually(t, "the policy with one circuit for all rejects", func() bool {
		_, kernel := call(t, client(t, star.Client, at)).FromKernel()
		return kernel
	})
	write("direction: inbound", "mode: forced-open")
	eventually(t, "the inbound policy leaves the client of this node alone", func() bool {
		return call(t, client(t, star.Client, at)).Status == 200
	})
	write("mode: forced-open")
	eventually(t, "the outbound policy rejects", func() bool {
		_, kernel := call(t, client(t, star.Client, at)).FromKernel()
		return kernel
	})
}
