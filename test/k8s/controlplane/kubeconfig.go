package controlplane

import (
	"encoding/json"
	"fmt"
	"os"
)

// Kubeconfig writes a kubeconfig by which a client is that user, in those groups,
// to the API, and gives its path. The name is that of the files and must be unique.
func (c *ControlPlane) Kubeconfig(name, user string, groups ...string) (string, error) {
	if err := c.authority.client(name, user, groups...); err != nil {
		return "", err
	}
	return c.writeKubeconfig(name, map[string]string{
		"client-certificate": c.authority.file(name + ".crt"),
		"client-key":         c.authority.file(name + ".key"),
	})
}

// TokenKubeconfig is Kubeconfig for a client that shows a token, such as that of a
// ServiceAccount.
func (c *ControlPlane) TokenKubeconfig(name, token string) (string, error) {
	return c.writeKubeconfig(name, map[string]string{"token": token})
}

func (c *ControlPlane) kubeconfigPath(name string) string {
	return c.authority.file(name + ".kubeconfig")
}

func (c *ControlPlane) writeKubeconfig(name string, user map[string]string) (string, error) {
	type object = map[string]any
	// JSON is YAML.
	data, err := json.MarshalIndent(object{
		"apiVersion": "v1",
		"kind":       "Config",
		"clusters": []object{{"name": "test", "cluster": object{
			"server":                c.url,
			"certificate-authority": c.CertificateAuthority(),
		}}},
		"users":           []object{{"name": name, "user": user}},
		"contexts":        []object{{"name": "test", "context": object{"cluster": "test", "user": name}}},
		"current-context": "test",
	}, "", "  ")
	if err != nil {
		return "", fmt.Errorf("kubeconfig %s: %w", name, err)
	}
	path := c.kubeconfigPath(name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return "", fmt.Errorf("kubeconfig %s: %w", name, err)
	}
	return path, nil
}
