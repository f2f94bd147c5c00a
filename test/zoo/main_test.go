//go:build zoo

// Package zoo runs HTTP/2 and gRPC clients and servers of many kinds around a real agent. scripts/test-zoo.sh builds them.
package zoo

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/lab/rootonly"
)

// Built once for all tests.
var (
	agentBinary string
	builtPeers  string // the directory of the clients and servers
)

// sideBySide is how many tests run at a time unless -test.parallel says otherwise: most of them wait.
const sideBySide = "4"

func TestMain(m *testing.M) {
	flag.Parse()
	parallel := false
	flag.Visit(func(f *flag.Flag) { parallel = parallel || f.Name == "test.parallel" })
	if !parallel {
		_ = flag.Set("test.parallel", sideBySide) // a number
	}
	if os.Geteuid() != 0 {
		os.Exit(rootonly.Main(m))
	}
	os.Exit(func() int {
		if err := build(); err != nil {
			fmt.Fprintln(os.Stderr, "zoo:", err)
			return 1
		}
		defer func() { _ = os.RemoveAll(filepath.Dir(agentBinary)) }()
		return m.Run()
	}())
}

func build() error {
	var err error
	if builtPeers, err = filepath.Abs("../../bin/zoo"); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(builtPeers, "peers")); err != nil {
		return fmt.Errorf("%w: make test-zoo builds the peers", err)
	}
	dir, err := os.MkdirTemp("", "cbagent-zoo-")
	if err != nil {
		return err
	}
	agentBinary = filepath.Join(dir, "cbagent")
	cmd := exec.Command("go", "build", "-o", agentBinary, "../../cmd/cbagent")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build the agent: %w", err)
	}
	return nil
}

const (
	patience = 60 * time.Second // bounds every wait; only a failing test waits so long
	loading  = 90 * time.Second // how long an agent may take to be ready
)

// soon returns a context that ends a wait in vain.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// workers has room for the clients that may be at work at a time where the test measures time: each takes a processor.
var workers = make(chan struct{}, runtime.GOMAXPROCS(0))

// working waits until a client may be at work; the returned function is called when it is not any more.
func working() (done func()) {
	workers <- struct{}{}
	return func() { <-workers }
}
