package row

import (
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

func TestFileReadsWhatItWrote(t *testing.T) {
	want := &File{
		Part: "overhead", About: "about", Command: "bench", Quick: true, Rounds: 2,
		Began: time.Unix(100, 0).UTC(), Ended: time.Unix(200, 0).UTC(),
		Host: Host{Kernel: "6.1", Cores: 2, Versions: map[string]string{"go": "go1.26"}},
		Left: []string{"nginx: not installed"},
		Rows: []Row{
			{Case: "a", Peer: "x", Round: 0, Values: map[string]float64{"p50_us": 1.5}},
			{Case: "a", Peer: "y", Round: 0, Values: map[string]float64{"p50_us": 2}},
			{Case: "b", Peer: "x", Round: 1, Values: map[string]float64{"p50_us": 3}},
		},
	}
	path := filepath.Join(t.TempDir(), "rows.json")
	if err := want.Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, wrote %+v", got, want)
	}
	if c := got.Cases(); !reflect.DeepEqual(c, []string{"a", "b"}) {
		t.Errorf("cases %v", c)
	}
	if p := got.Peers("a"); !reflect.DeepEqual(p, []string{"x", "y"}) {
		t.Errorf("peers %v", p)
	}
	if v := got.Values("b", "x", "p50_us"); !reflect.DeepEqual(v, map[int]float64{1: 3}) {
		t.Errorf("values %v", v)
	}
}

func TestFileWithoutRows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rows.json")
	if err := (&File{Part: "none"}).Write(path); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(path); err != nil || len(got.Rows) != 0 || got.Part != "none" {
		t.Errorf("got %+v, %v", got, err)
	}
}
