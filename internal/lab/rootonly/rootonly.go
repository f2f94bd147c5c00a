// Package rootonly skips tests that need root where an ordinary user runs them. In CI none is skipped: scripts/test.sh runs
// the tests as root, and fails on skips that .ci/skips does not name.
package rootonly

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// Test skips a test that makes network namespaces, loads BPF programs or mounts file systems, unless root runs it.
func Test(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// Main runs the tests of a package that all need root, for its TestMain, and returns the exit code. Other users get their
// names instead; with CI set that is a failure.
func Main(m *testing.M) int {
	if os.Geteuid() == 0 {
		return m.Run()
	}
	if os.Getenv("CI") != "" {
		fmt.Fprintln(os.Stderr, "these tests need root, and must not be skipped in CI")
		return 1
	}
	fmt.Println("skipped, since they need root:")
	flag.Parse()
	_ = flag.Set("test.list", ".") // a regular expression
	return m.Run()
}
