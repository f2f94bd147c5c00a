package demo

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// policyText is the policy of the demo.
func policyText(backends []netip.AddrPort, open time.Duration) string {
	quoted := make([]string, len(backends))
	for i, b := range backends {
		quoted[i] = fmt.Sprintf("%q", b)
	}
	return fmt.Sprintf(`version: 1
policies:
- name: demo
  match:
    addresses: [%s]
  trip:
  - consecutiveFailures: 5
  open:
    duration: %s
  halfOpen:
    calls: 3
`, strings.Join(quoted, ", "), open)
}

// writePolicy writes the policy to a new directory, which remove removes.
func writePolicy(text string) (path string, remove func() error, err error) {
	dir, err := os.MkdirTemp("", "cbagent-demo-")
	if err != nil {
		return "", nil, fmt.Errorf("write the policy: %w", err)
	}
	remove = func() error { return os.RemoveAll(dir) }
	path = filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		_ = remove()
		return "", nil, fmt.Errorf("write the policy: %w", err)
	}
	return path, remove, nil
}
