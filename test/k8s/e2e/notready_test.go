//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// The agent's pod on a node that lacks something is not ready, `kubectl describe pod` says why in words that the
// documentation has, and with the line that mends it; and that line mends it.
func TestNotReadySaysWhy(t *testing.T) {
	s := open(t, "nftables")
	const template = "/spec/template/spec/containers/0/"
	shipped := []string{"apply -f " + manifestPath}
	restart := "delete pods -n=cbagent -l=app.kubernetes.io/name=cbagent --wait=false"
	tests := []struct {
		name        string
		spoil, mend []string
		says        []string // as in the documentation
		remedies    []string // besides
	}{
		{
			"no permission, no bpffs and another cgroup layout",
			[]string{`patch daemonset cbagent -n=cbagent --type=json -p=[
				{"op":"replace","path":"` + template + `securityContext/capabilities/add","value":["BPF"]},
				{"op":"test","path":"` + template + `volumeMounts/1/name","value":"cgroup"},
				{"op":"remove","path":"` + template + `volumeMounts/1"},
				{"op":"test","path":"` + template + `volumeMounts/0/name","value":"bpffs"},
				{"op":"remove","path":"` + template + `volumeMounts/0"}]`},
			shipped,
			[]string{"this process lacks the capabilities", "is not on a BPF file system", "no cgroup of pods"},
			[]string{"lacks the capabilities NET_ADMIN, PERFMON: run as root", "hostPath: {path: /sys/fs/bpf}", "hostPath: {path: /sys/fs/cgroup}"},
		},
		{
			"the API server cannot be reached",
			[]string{"set env -n=cbagent daemonset/cbagent KUBERNETES_SERVICE_HOST=127.0.0.1 KUBERNETES_SERVICE_PORT=1"},
			[]string{"set env -n=cbagent daemonset/cbagent KUBERNETES_SERVICE_HOST- KUBERNETES_SERVICE_PORT-"},
			[]string{"the API server does not answer this node"}, []string{"connection refused"},
		},
		{
			"no right to read backends",
			[]string{"delete clusterrolebinding cbagent", restart},
			[]string{"create clusterrolebinding cbagent --clusterrole=cbagent --serviceaccount=cbagent:cbagent"},
			[]string{"a ClusterRole must grant get, list and watch on endpointslices"}, []string{"policy orders is not in force: watch EndpointSlices of shop/orders"},
		},
		{
			"no right to read policies",
			[]string{"delete rolebinding cbagent -n=cbagent", restart}, append(shipped, restart),
			[]string{"a Role must grant get, list and watch on configmaps"}, []string{"resourceNames [cbagent-policy] in namespace cbagent"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			documented(t, test.says...)
			s.policy(t, example(t))
			for _, command := range test.spoil {
				s.kubectl(t, arguments(command)...)
			}
			eventually(t, 40*time.Second, "a pod is not ready and says why", func() error {
				return s.notReady(t, "app.kubernetes.io/name=cbagent", slices.Concat(test.says, test.remedies)...)
			})
			for _, command := range test.mend {
				s.kubectl(t, arguments(command)...)
			}
			eventually(t, 40*time.Second, "the agents are ready again", func() error { return s.allReady(t) })
		})
	}

	t.Run("another agent's pins", func(t *testing.T) {
		const says = "another agent is running with these pins"
		documented(t, says)
		if _, err := s.KubectlInput(t.Context(), s.secondAgent(t), "apply", "-f", "-"); err != nil {
			t.Fatal(err)
		}
		eventually(t, 40*time.Second, "the second agent is not ready and says why", func() error {
			return s.notReady(t, "app=second", says, "kubectl get daemonsets -A -l app.kubernetes.io/name=cbagent")
		})
		if err := s.allReady(t); err != nil {
			t.Errorf("the first agents: %v", err)
		}
	})
}

// documented complains of messages that are not in the documentation's table.
func documented(t *testing.T, messages ...string) {
	t.Helper()
	docs, err := os.ReadFile("../../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if !strings.Contains(string(docs), "\n| `"+m+"` |") {
			t.Errorf("docs/kubernetes.md has no row of %q", m)
		}
	}
}

// arguments splits a command line; a patch is one argument.
func arguments(command string) []string {
	head, patch, found := strings.Cut(command, " -p=")
	all := strings.Fields(head)
	if found {
		all = append(all, "-p="+patch)
	}
	return all
}

// notReady returns nil when a pod with the label is not ready and its description has all of the texts.
func (s *shop) notReady(t *testing.T, label string, texts ...string) error {
	t.Helper()
	var errs []error
	for _, p := range s.pods(t, "cbagent", label) {
		if p.Ready {
			errs = append(errs, fmt.Errorf("%s is ready", p.Name))
			continue
		}
		out, err := s.Kubectl(t.Context(), "describe", "pod", "-n=cbagent", p.Name)
		if err != nil {
			errs = append(errs, err) // it has been replaced
			continue
		}
		missing := ""
		for _, text := range texts {
			if !strings.Contains(string(out), text) {
				missing = text
			}
		}
		if missing == "" {
			t.Logf("kubectl describe says %s", out)
			return nil
		}
		errs = append(errs, fmt.Errorf("%s does not say %q: %s", p.Name, missing, out))
	}
	return errors.Join(append(errs, errors.New("none says all"))...)
}

// allReady returns nil when the DaemonSet as it is now has a ready pod on each node.
func (s *shop) allReady(t *testing.T) error {
	t.Helper()
	var set struct {
		Metadata struct{ Generation int }
		Status   struct{ ObservedGeneration, UpdatedNumberScheduled, NumberReady int }
	}
	out := s.kubectl(t, "get", "daemonset", "cbagent", "-n=cbagent", "-o=json")
	if err := json.Unmarshal([]byte(out), &set); err != nil {
		t.Fatal(err)
	}
	st := set.Status
	if st.ObservedGeneration != set.Metadata.Generation || st.UpdatedNumberScheduled != len(s.Nodes) || st.NumberReady != len(s.Nodes) {
		return fmt.Errorf("generation %d: %+v", set.Metadata.Generation, st)
	}
	for _, p := range s.agents(t) {
		if !p.Ready {
			return fmt.Errorf("%s is not ready", p.Name)
		}
	}
	return nil
}

// secondAgent is a pod like those of the DaemonSet, on a node that has one.
func (s *shop) secondAgent(t *testing.T) string {
	t.Helper()
	var set struct {
		Spec struct {
			Template struct{ Spec map[string]any }
		}
	}
	out := s.kubectl(t, "get", "daemonset", "cbagent", "-n=cbagent", "-o=json")
	if err := json.Unmarshal([]byte(out), &set); err != nil {
		t.Fatal(err)
	}
	spec := set.Spec.Template.Spec
	spec["nodeName"] = s.Nodes[0].Name
	manifest, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Pod", "spec": spec,
		"metadata": map[string]any{"name": "second", "namespace": "cbagent", "labels": map[string]string{"app": "second"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(manifest)
}
