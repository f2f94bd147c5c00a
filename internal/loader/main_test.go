package loader

import (
	"fmt"
	"os"
	"testing"

	"github.com/cbagent/cbagent/internal/lab/rootonly"
)

func TestMain(m *testing.M) {
	code := rootonly.Main(m)
	if err := closeCommon(); err != nil {
		fmt.Fprintln(os.Stderr, "internal/loader:", err)
		code = 1
	}
	os.Exit(code)
}
