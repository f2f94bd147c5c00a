package main

import (
	"net/netip"
	"strings"
	"testing"

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
