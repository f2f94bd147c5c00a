//go:build kube

package controlplane

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The API answers the administrator, keeps what it is given, and refuses a client
// that may do nothing.
func TestControlPlane(t *testing.T) {
	c := ForTest(t)
	ctx := t.Context()

	if _, err := c.Kubectl(ctx, "create", "configmap", "settings", "--from-literal=answer=42"); err != nil {
		t.Fatal(err)
	}
	got, err := c.Kubectl(ctx, "get", "configmap", "settings", "-o", "jsonpath={.data.answer}")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != "42" {
		t.Errorf("the ConfigMap says %q, want 42", got)
	}

	nobody, err := c.Kubeconfig("nobody", "nobody")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Kubectl(ctx, "--kubeconfig="+nobody, "get", "configmap", "settings")
	if err == nil || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("a client without rights got %v, want forbidden", err)
	}
}

// A component that ends at once is told as such, with its log.
func TestStartShowsWhatFailed(t *testing.T) {
	broken := t.TempDir()
	script := "#!/bin/sh\necho the disk is full\nexit 7\n"
	if err := os.WriteFile(filepath.Join(broken, "etcd"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(Binaries(t), "kube-apiserver"), filepath.Join(broken, "kube-apiserver")); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Config{Binaries: broken, Dir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "etcd has ended: exit status 7\nthe disk is full") {
		t.Errorf("got %v, want how etcd ended and its log", err)
	}
}
