package main

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/agent"
	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/kubeevents"
	"github.com/cbagent/cbagent/internal/policy"
)

func TestParseConfigMapRef(t *testing.T) {
	got, err := parseConfigMapRef("cbagent/cbagent-policy")
	if want := (configMapRef{"cbagent", "cbagent-policy"}); got != want || err != nil {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	for _, bad := range []string{"", "name", "/name", "namespace/", "a/b/c"} {
		if _, err := parseConfigMapRef(bad); err == nil || !strings.Contains(err.Error(), "NAMESPACE/NAME") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// The update for an API server that does not answer names the reason, which readiness shows, and the remedy.
func TestSilentAPI(t *testing.T) {
	config := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(config, []byte(`{"apiVersion": "v1", "kind": "Config", "current-context": "c",
		"clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
		"contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], "users": [{"name": "u", "user": {}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	client, err := kubeClient(config, true)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	select {
	case u := <-followConfigMap(ctx, slog.New(slog.DiscardHandler), client, configMapRef{"shop", "breakers"}):
		if !errors.Is(u.Err, agent.ErrNotYet) {
			t.Errorf("%+v, want %v", u, agent.ErrNotYet)
		}
		for _, want := range []string{"ConfigMap shop/breakers", "connection refused", "curl -k http://127.0.0.1:1/readyz", "KUBERNETES_SERVICE_HOST"} {
			if !strings.Contains(u.Err.Error(), want) {
				t.Errorf("%v lacks %q", u.Err, want)
			}
		}
	case <-time.After(20 * time.Second):
		t.Error("no update within 20 s")
	}
}

func TestConfigMapSources(t *testing.T) {
	files := map[string]string{"b.yaml": "version: 1", "a.yaml": "version: 1\npolicies: 7", "readme.txt": "no policy"}
	sources := configMapSources(configMapRef{"shop", "breakers"}, files)
	if len(sources) != 2 || sources[0].Name != "shop/breakers/a.yaml" || sources[1].Name != "shop/breakers/b.yaml" {
		t.Fatalf("sources %v, want a.yaml and b.yaml", sources)
	}
	if _, err := policy.ParseAll(sources); err == nil || !strings.HasPrefix(err.Error(), "shop/breakers/a.yaml:2:11: ") {
		t.Errorf("error %v, want one that names ConfigMap, file and place", err)
	}
}

func TestKubeObject(t *testing.T) {
	addr := netip.MustParseAddrPort("10.244.1.7:8080")
	backend := discovery.Backend{
		Addr: addr, Kind: discovery.KindService, Source: "shop/orders:http", Namespace: "shop", Pod: "orders-1", PodUID: "uid-1",
	}
	noPod := backend
	noPod.Namespace, noPod.Pod, noPod.PodUID = "", "", ""
	service := kubeevents.Object{Namespace: "shop", Service: "orders"}
	tests := []struct {
		name     string
		backends []discovery.Backend
		want     kubeevents.Object
	}{
		{"a pod", []discovery.Backend{backend}, kubeevents.Object{Namespace: "shop", Pod: "orders-1", PodUID: "uid-1", Service: "orders"}},
		{"an endpoint without a pod", []discovery.Backend{noPod}, service},
		{"one circuit for several", []discovery.Backend{backend, noPod}, service},
		{"an address", []discovery.Backend{{Addr: addr, Kind: discovery.KindAddress, Source: addr.String()}}, kubeevents.Object{}},
		{"nothing", nil, kubeevents.Object{}},
	}
	for _, test := range tests {
		if got := kubeObject(test.backends); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}
