package usage

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// burn keeps a core busy until this process has run for d longer.
func burn(t *testing.T, d time.Duration) {
	t.Helper()
	before, err := CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for sum := 0; ; sum++ {
		if sum%1_000_000 != 0 {
			continue
		}
		now, err := CPU(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if now-before >= d {
			return
		}
	}
}

func TestBusyGrowsWithWork(t *testing.T) {
	before, err := Busy()
	if err != nil {
		t.Fatal(err)
	}
	burn(t, 100*time.Millisecond)
	after, err := Busy()
	if err != nil {
		t.Fatal(err)
	}
	if after-before < 50*time.Millisecond {
		t.Errorf("the machine was busy for %s while this process ran for 100 ms", after-before)
	}
}

func TestTreeHoldsChildren(t *testing.T) {
	child := exec.Command("sleep", "30")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	if all := Tree(os.Getpid()); !slices.Contains(all, child.Process.Pid) || all[0] != os.Getpid() {
		t.Errorf("%v does not hold %d", all, child.Process.Pid)
	}
}

func TestRSS(t *testing.T) {
	one, err := RSS(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	two, err := RSS(os.Getpid(), os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if one < 1<<20 || two < 3*one/2 {
		t.Errorf("%d bytes, and twice that %d", one, two)
	}
	if _, err := RSS(1 << 30); err == nil {
		t.Error("a process that does not exist has memory")
	}
}
