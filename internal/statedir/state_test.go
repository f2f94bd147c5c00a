package statedir

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cbagent/cbagent/internal/breaker"
)

func TestState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "state.json")
	if s, err := read(path); err != nil || len(s.Circuits) != 0 {
		t.Errorf("no file: %+v, %v", s, err)
	}
	want := State{Boot: bootID(), Circuits: []Circuit{{Policy: "orders", Backend: "192.0.2.1:80",
		Snapshot: breaker.Snapshot{State: breaker.StateOpen, Until: breaker.Never, Step: 3}}}}
	if err := write(path, &want); err != nil {
		t.Fatal(err)
	}
	got, err := read(path)
	if err != nil || len(got.Circuits) != 1 || got.Circuits[0] != want.Circuits[0] {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	want.Boot = "another"
	if err := write(path, &want); err != nil {
		t.Fatal(err)
	}
	if got, err := read(path); err != nil || len(got.Circuits) != 0 {
		t.Errorf("of another boot: %+v, %v; want nothing", got, err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := read(path); err == nil {
		t.Error("half a file is no error")
	}
}
