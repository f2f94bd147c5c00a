package loader

import (
	"fmt"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "internal/loader: these tests load BPF programs and make network namespaces: run them as root")
		os.Exit(1)
	}
	code := m.Run()
	if err := closeCommon(); err != nil {
		fmt.Fprintln(os.Stderr, "internal/loader:", err)
		code = 1
	}
	os.Exit(code)
}
