//go:build kube

package manifests

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cbagent/cbagent/test/k8s/controlplane"
)

// kubernetesModule is the folder of the Kubernetes that the test's binary is built from.
func kubernetesModule(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes")
	cmd.Dir = "../binary"
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("find the Kubernetes module: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// schemas writes a strict JSON Schema for each kind of Kubernetes' own OpenAPI description, under the names by which
// kubeconform looks for them.
func schemas(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(kubernetesModule(t), "api/openapi-spec/swagger.json"))
	if err != nil {
		t.Fatal(err)
	}
	type object = map[string]any
	var swagger struct{ Definitions map[string]object }
	if err := json.Unmarshal(data, &swagger); err != nil {
		t.Fatal(err)
	}
	swagger.Definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"] = object{"type": []string{"integer", "string"}}
	for _, definition := range swagger.Definitions {
		if _, ok := definition["properties"]; ok {
			definition["additionalProperties"] = false
		}
	}
	dir := t.TempDir()
	definitions, err := json.Marshal(object{"definitions": swagger.Definitions})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "definitions.json"), definitions, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, definition := range swagger.Definitions {
		kinds, _ := definition["x-kubernetes-group-version-kind"].([]any)
		if len(kinds) != 1 {
			continue // of no kind, or of all, such as ListOptions
		}
		k := kinds[0].(object)
		group, _, _ := strings.Cut(k["group"].(string), ".")
		file := strings.ToLower(strings.Join(strings.FieldsFunc(
			fmt.Sprintf("%s-%s-%s", k["kind"], group, k["version"]), func(r rune) bool { return r == '-' }), "-"))
		ref := fmt.Sprintf(`{"$ref": "definitions.json#/definitions/%s"}`, name)
		if err := os.WriteFile(filepath.Join(dir, file+".json"), []byte(ref), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// conform has kubeconform judge a manifest by the schemas.
func conform(t *testing.T, dir, manifest string) error {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "tool", "-modfile=tools/go.mod", "kubeconform", "-summary", "-strict",
		"-skip=PodMonitor", "-schema-location", dir+"/{{.ResourceKind}}{{.KindSuffix}}.json", "-")
	cmd.Dir = "../../.."
	cmd.Stdin = strings.NewReader(manifest)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("kubeconform: %w: %s", err, out)
	}
	return nil
}

func TestConformsToSchemas(t *testing.T) {
	dir := schemas(t)
	// Rendering takes no server.
	c := controlplane.ForTest(t)
	for _, v := range variants {
		if err := conform(t, dir, kustomized(t, c, v.component)); err != nil {
			t.Errorf("base with %q: %v", v.component, err)
		}
	}
	misspelt := strings.Replace(read(t, daemonSet), "hostNetwork:", "hostNetworks:", 1)
	if err := conform(t, dir, misspelt); err == nil || !strings.Contains(err.Error(), "hostNetworks") {
		t.Errorf("misspelt field: got %v, want an error that names hostNetworks", err)
	}
}
