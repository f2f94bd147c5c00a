package controlplane

import (
	"context"
	"os"
	"testing"
	"time"
)

// BinariesVariable names the environment variable that holds the folder which
// scripts/kube-binary.sh printed. `make test-k8s` sets it.
const BinariesVariable = "CBAGENT_KUBE"

// ForTest starts a control plane on the loopback, without controllers, that ends
// with the test. Tests that call it carry the build tag kube, so that `make test`
// does not need Kubernetes.
func ForTest(t testing.TB) *ControlPlane {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := Start(ctx, Config{Binaries: Binaries(t), Dir: t.TempDir()})
	if err != nil {
		t.Fatalf("control plane: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.Logs())
		}
		if err := c.Stop(); err != nil {
			t.Errorf("control plane: %v", err)
		}
	})
	return c
}

// Binaries is the folder with the components; the test fails where there is none.
func Binaries(t testing.TB) string {
	t.Helper()
	dir := os.Getenv(BinariesVariable)
	if dir == "" {
		t.Fatalf("%s is not set: run `make test-k8s`, or set it to what scripts/kube-binary.sh prints", BinariesVariable)
	}
	return dir
}
