//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cbagent/cbagent/test/k8s/cluster"
)

// shop is the cluster with the agent and the Service orders on it.
type shop struct {
	*cluster.Cluster
	clusterIP string
	backends  []pod
	clients   []pod // of each kind, on each node
}

// pod is one that runs.
type pod struct {
	Name, Node, IP string
	Restarts       int
	Ready          bool
}

// tally and counts are what the workload prints.
type tally struct {
	Requests  int            `json:"requests"`
	ByStatus  map[int]int    `json:"by_status"`
	ByBackend map[string]int `json:"by_backend"`
	ByKernel  map[string]int `json:"by_kernel"`
	Errors    map[string]int `json:"errors"`
	Last      string         `json:"last"`
}

type counts struct {
	Requests map[int]int `json:"requests"`
	Probes   int         `json:"probes"`
}

// total is the number of requests that reached the backend.
func (c counts) total() int {
	var n int
	for _, of := range c.Requests {
		n += of
	}
	return n
}

// manifestPath is the shipped one.
const manifestPath = "../../../deploy/daemonset.yaml"

// open starts the cluster, applies the shipped manifest as it is, and the shop.
func open(t *testing.T, proxyMode string) *shop {
	t.Helper()
	s := &shop{Cluster: start(t, proxyMode)}
	t.Cleanup(func() { s.explain(t) })
	s.kubectl(t, "apply", "-f", manifestPath, "-f", "manifests/shop.yaml")
	for _, what := range []string{"-n=cbagent daemonset/cbagent", "-n=shop statefulset/orders", "-n=shop daemonset/client", "-n=shop daemonset/host-client"} {
		s.kubectl(t, append([]string{"rollout", "status", "--timeout=90s"}, strings.Fields(what)...)...)
	}
	s.clusterIP = s.kubectl(t, "get", "service", "orders", "-n=shop", "-o=jsonpath={.spec.clusterIP}")
	s.backends = s.pods(t, "shop", "app=orders")
	s.clients = append(s.pods(t, "shop", "app=client"), s.pods(t, "shop", "app=host-client")...)
	if len(s.backends) != 3 || len(s.clients) != 4 {
		t.Fatalf("%d backends and %d clients, want 3 and 4", len(s.backends), len(s.clients))
	}
	return s
}

// explain logs what the cluster says of a failed test.
func (s *shop) explain(t *testing.T) {
	if !t.Failed() {
		return
	}
	for _, args := range []string{
		"get pods -A -o wide",
		"get events -A --sort-by=.lastTimestamp",
		"logs -n cbagent -l app.kubernetes.io/name=cbagent --prefix --tail=60 --all-containers --ignore-errors",
		"logs -n cbagent -l app.kubernetes.io/name=cbagent --prefix --tail=20 --previous --ignore-errors",
	} {
		// The test's own context is done by now.
		out, err := s.Kubectl(context.Background(), strings.Fields(args)...)
		t.Logf("kubectl %s: %v\n%s", args, err, out)
	}
}

// kubectl runs it as the administrator; an error ends the test.
func (s *shop) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := s.Kubectl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// policy puts the text into the ConfigMap that the shipped manifest names.
func (s *shop) policy(t *testing.T, text string) {
	t.Helper()
	patch, err := json.Marshal(map[string]any{"data": map[string]string{"policy.yaml": text}})
	if err != nil {
		t.Fatal(err)
	}
	s.kubectl(t, "patch", "configmap", "cbagent-policy", "-n=cbagent", "--type=merge", "--patch="+string(patch))
}

// pods are those with the label, in the order of their names.
func (s *shop) pods(t *testing.T, namespace, label string) []pod {
	t.Helper()
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct{ NodeName string }
			Status   struct {
				PodIP             string
				ContainerStatuses []struct {
					RestartCount int
					Ready        bool
				}
			}
		}
	}
	out := s.kubectl(t, "get", "pods", "-n="+namespace, "-l="+label, "-o=json", "--sort-by=.metadata.name")
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	var all []pod
	for _, item := range list.Items {
		p := pod{Name: item.Metadata.Name, Node: item.Spec.NodeName, IP: item.Status.PodIP}
		for _, c := range item.Status.ContainerStatuses {
			p.Restarts += c.RestartCount
			p.Ready = c.Ready
		}
		all = append(all, p)
	}
	return all
}

// call has a pod send requests, and gives what it was answered.
func (s *shop) call(t *testing.T, from pod, address string, flags ...string) tally {
	t.Helper()
	var got tally
	args := append([]string{"exec", "-n=shop", from.Name, "--", "/workload", "call"}, flags...)
	out := s.kubectl(t, append(args, address)...)
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	return got
}

// asked is what a backend has counted; with a status it answers with that from now on.
func (s *shop) asked(t *testing.T, backend pod, status ...int) counts {
	t.Helper()
	args := []string{"exec", "-n=shop", backend.Name, "--", "/workload", "control", "127.0.0.1:9090"}
	for _, code := range status {
		args = append(args, fmt.Sprint(code))
	}
	var got counts
	out := s.kubectl(t, args...)
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	return got
}

// eventually asks until there is no error, and fails the test with the last one when
// that takes too long.
func eventually(t *testing.T, within time.Duration, what string, ask func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %s: %v", what, within, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// example is the policy of the tests.
func example(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("manifests/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
