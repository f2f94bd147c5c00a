//go:build e2e

// Package e2e runs the shipped manifests on a real two-node cluster.
package e2e

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cbagent/cbagent/test/k8s/cluster"
	"github.com/cbagent/cbagent/test/k8s/controlplane"
)

// imagesVariable names the environment variable with the paths of the image tars
// that the nodes get. `make e2e-k8s` sets it.
const imagesVariable = "CBAGENT_IMAGES"

// start gives a cluster of two nodes that ends with the test.
func start(t *testing.T, proxyMode string) *cluster.Cluster {
	t.Helper()
	images := strings.Fields(os.Getenv(imagesVariable))
	if len(images) == 0 {
		t.Fatalf("%s is not set: run `make e2e-k8s`", imagesVariable)
	}
	dir, err := os.MkdirTemp("", "cbagent-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	began := time.Now()
	c, err := cluster.Start(ctx, cluster.Config{
		Binaries:  controlplane.Binaries(t),
		Dir:       dir,
		Nodes:     2,
		Images:    images,
		ProxyMode: proxyMode,
	})
	if err != nil {
		t.Fatalf("%v\n(files in %s)", err, dir)
	}
	t.Logf("cluster ready in %s", time.Since(began).Round(time.Millisecond))
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.Logs())
		}
		if err := c.Stop(); err != nil {
			t.Errorf("stop the cluster: %v", err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("files of the cluster: %v", err)
		}
	})
	return c
}
