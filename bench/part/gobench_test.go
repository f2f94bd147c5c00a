package part

import (
	"log/slog"
	"reflect"
	"testing"

	"github.com/cbagent/cbagent/bench/row"
)

func TestRead(t *testing.T) {
	r := &Run{File: &row.File{}, Log: slog.New(slog.DiscardHandler)}
	n, err := readBenchmarks(r, []byte(`goos: linux
BenchmarkOutcome/cbagent_count_window/ask+record-2   	1000	47.5 ns/op	0 B/op	0 allocs/op
BenchmarkCircuits-2   	10	1200 ns/op	3 circuits
PASS
`), 4)
	if err != nil || n != 2 {
		t.Fatal(n, err)
	}
	want := []row.Row{
		{Case: "Outcome", Peer: "cbagent count window/ask+record", Round: 4, Values: map[string]float64{"ns": 47.5, "bytes": 0, "allocs": 0}},
		{Case: "Circuits", Peer: "", Round: 4, Values: map[string]float64{"ns": 1200, "circuits": 3}},
	}
	if !reflect.DeepEqual(r.File.Rows, want) {
		t.Errorf("got %+v", r.File.Rows)
	}
}
