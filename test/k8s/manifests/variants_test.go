//go:build kube

package manifests

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/cbagent/cbagent/test/k8s/controlplane"
)

const deploy = "../../../deploy"

// variants are the kustomize components, each with the chart's value that does the
// same; the first is the base.
var variants = []struct{ component, value string }{
	{"", "podMonitor.enabled=false"},
	{"podmonitor", "podMonitor.enabled=true"},
	{"mounted-policy", "mountedPolicy=true"},
	{"detach-on-stop", "detachOnStop=true"},
}

// podMonitorDefinition stands for the Prometheus operator's, so far as the API needs
// it to take a PodMonitor.
const podMonitorDefinition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: podmonitors.monitoring.coreos.com}
spec:
  group: monitoring.coreos.com
  names: {kind: PodMonitor, listKind: PodMonitorList, plural: podmonitors, singular: podmonitor}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

// kustomized renders the base with a component, as an overlay of a user does.
func kustomized(t *testing.T, c *controlplane.ControlPlane, component string) string {
	t.Helper()
	// Kustomize takes relative paths only, and follows no symbolic link on the way.
	overlay, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	base, err := filepath.Abs(deploy)
	if err != nil {
		t.Fatal(err)
	}
	if base, err = filepath.Rel(overlay, base); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("resources: [%s]\n", base)
	if component != "" {
		text += fmt.Sprintf("components: [%s]\n", filepath.Join(base, "components", component))
	}
	if err := os.WriteFile(filepath.Join(overlay, "kustomization.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := c.Kubectl(t.Context(), "kustomize", overlay)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// charted renders the Helm chart with a value set.
func charted(t *testing.T, value string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "tool", "-modfile=tools/go.mod", "helm", "template", "cbagent",
		"deploy/helm/cbagent", "--namespace=cbagent", "--kube-version=1.36.0", "--set="+value)
	cmd.Dir = "../../.."
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("helm template --set %s: %v\n%s", value, err, &said)
	}
	return string(out)
}

// objects reads a manifest, each object under its kind and name.
func objects(t *testing.T, manifest string) map[string]unstructured.Unstructured {
	t.Helper()
	all := map[string]unstructured.Unstructured{}
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(manifest), 4096)
	for {
		var object unstructured.Unstructured
		err := decoder.Decode(&object)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(object.Object) > 0 { // a document of comments alone
			all[object.GetKind()+"/"+object.GetName()] = object
		}
	}
}

func TestVariants(t *testing.T) {
	c := controlplane.ForTest(t)
	if err := apply(t, c, podMonitorDefinition); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Kubectl(t.Context(), "wait", "--for=condition=Established", "--timeout=20s",
		"crd/podmonitors.monitoring.coreos.com"); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(deploy, "components"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(entries), len(variants)-1; got != want {
		t.Errorf("%d folders in deploy/components, and %d in this test", got, want)
	}

	for _, v := range variants {
		t.Run("base "+v.component, func(t *testing.T) {
			manifest := kustomized(t, c, v.component)
			if v.component == "" {
				if diff := cmp.Diff(objects(t, read(t, daemonSet)), objects(t, manifest)); diff != "" {
					t.Errorf("the base is not deploy/daemonset.yaml (-file +base):\n%s", diff)
				}
			}
			if err := apply(t, c, manifest); err != nil {
				t.Errorf("the API refuses it: %v", err)
			}
			if diff := cmp.Diff(objects(t, manifest), objects(t, charted(t, v.value))); diff != "" {
				t.Errorf("the chart with %s is another thing (-kustomize +helm):\n%s", v.value, diff)
			}
		})
	}
}

// A value that the chart does not know is refused, not ignored.
func TestChartRefusesUnknownValues(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "tool", "-modfile=tools/go.mod", "helm", "template", "cbagent",
		"deploy/helm/cbagent", "--kube-version=1.36.0", "--set=detachOnStopp=true")
	cmd.Dir = "../../.."
	out, err := cmd.CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("detachOnStopp")) {
		t.Errorf("got %v: %s", err, out)
	}
}
