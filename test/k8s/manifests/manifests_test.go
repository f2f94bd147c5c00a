//go:build kube

// Package manifests has what ships in deploy/ judged by a real kube-apiserver.
package manifests

import (
	"os"
	"strings"
	"testing"

	"github.com/cbagent/cbagent/test/k8s/controlplane"
)

const daemonSet = "../../../deploy/daemonset.yaml"

// apply gives the manifest to the API as `kubectl apply -f` does, where a field
// that is unknown or given twice is an error.
func apply(t *testing.T, c *controlplane.ControlPlane, manifest string) error {
	t.Helper()
	_, err := c.KubectlInput(t.Context(), manifest, "apply", "--validate=strict", "-f", "-")
	return err
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestDaemonSetIsAccepted(t *testing.T) {
	c := controlplane.ForTest(t)
	manifest := read(t, daemonSet)
	if err := apply(t, c, manifest); err != nil {
		t.Fatalf("first apply: %v", err)
	}
	// A second apply changes nothing: no field is one that the API drops or rewrites.
	if _, err := c.KubectlInput(t.Context(), manifest, "diff", "-f", "-"); err != nil {
		t.Errorf("after apply, diff: %v", err)
	}
	// The check itself works: a misspelt field is an error.
	misspelt := strings.Replace(manifest, "hostNetwork:", "hostNetworks:", 1)
	if err := apply(t, c, misspelt); err == nil || !strings.Contains(err.Error(), "hostNetworks") {
		t.Errorf("misspelt field: got %v, want an error that names hostNetworks", err)
	}
}

func TestAccountMayDoOnlyItsWork(t *testing.T) {
	c := controlplane.ForTest(t)
	if err := apply(t, c, read(t, daemonSet)); err != nil {
		t.Fatal(err)
	}
	const account = "system:serviceaccount:cbagent:cbagent"
	tests := []struct {
		args string
		want bool
	}{
		{"watch configmaps/cbagent-policy -n cbagent", true},
		{"get configmaps/cbagent-policy -n cbagent", true},
		{"update configmaps/cbagent-policy -n cbagent", false},
		{"get configmaps/other -n cbagent", false},
		{"list configmaps -n cbagent", false},
		{"get configmaps/cbagent-policy -n default", false},
		{"watch endpointslices.discovery.k8s.io -A", true},
		{"update endpointslices.discovery.k8s.io -A", false},
		{"watch services -A", true},
		{"patch services -A", false},
		{"create events -n shop", true},
		{"delete events -n shop", false},
		{"get secrets -n cbagent", false},
		{"list pods -A", false},
		{"get nodes", false},
		{"create pods/exec -n cbagent", false},
	}
	for _, test := range tests {
		t.Run(test.args, func(t *testing.T) {
			args := append([]string{"auth", "can-i", "--as=" + account}, strings.Fields(test.args)...)
			// can-i exits with 1 for a no.
			out, err := c.Kubectl(t.Context(), args...)
			answer := strings.TrimSpace(string(out))
			if answer != "yes" && answer != "no" {
				t.Fatalf("can-i says %q: %v", out, err)
			}
			if got := answer == "yes"; got != test.want {
				t.Errorf("allowed: %v, want %v", got, test.want)
			}
		})
	}
}
