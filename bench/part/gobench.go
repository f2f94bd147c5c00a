package part

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// GoBenchmarks returns the part that runs the test binary NAME.test in the folder of tools, with those benchmarks that match.
func GoBenchmarks(name, about, match string) Part {
	return Part{
		Name: name, About: about, Rounds: 10, Quick: 1,
		Run: func(ctx context.Context, r *Run) error { return runBenchmarks(ctx, r, name, match) },
	}
}

func runBenchmarks(ctx context.Context, r *Run, name, match string) error {
	binary := filepath.Join(r.Bench.Tools, name+".test")
	if _, err := os.Stat(binary); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is not built: make bench builds it", binary)
	}
	length := "100ms"
	if r.Quick {
		length = "10ms"
	}
	for round := range r.Rounds {
		cmd := exec.CommandContext(ctx, binary, "-test.run", "^$", "-test.bench", match, "-test.benchmem",
			"-test.benchtime", length, "-test.timeout", "10m")
		var out, said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &said
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w: %s%s", binary, err, out.String(), said.String())
		}
		n, err := readBenchmarks(r, out.Bytes(), round)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("%s has no benchmark that matches %q", binary, match)
		}
	}
	return nil
}

// readBenchmarks adds a row for each benchmark: "Outcome/cbagent count window/record" is of case Outcome and peer "cbagent count
// window/record".
func readBenchmarks(r *Run, text []byte, round int) (n int, err error) {
	lines := benchfmt.NewReader(bytes.NewReader(text), "benchmarks")
	for lines.Scan() {
		result, ok := lines.Result().(*benchfmt.Result)
		if !ok {
			continue
		}
		base, parts := result.Name.Parts()
		var peer strings.Builder
		for i, p := range parts {
			if strings.HasPrefix(string(p), "-") {
				continue // the number of processors
			}
			if i > 0 {
				peer.WriteByte('/')
			}
			peer.WriteString(strings.ReplaceAll(strings.TrimPrefix(string(p), "/"), "_", " "))
		}
		values := map[string]float64{}
		for _, v := range result.Values {
			switch v.Unit {
			case "sec/op":
				values["ns"] = math.Round(v.Value*1e12) / 1e3 // seconds carry an error of the conversion
			case "B/op":
				values["bytes"] = v.Value
			case "allocs/op":
				values["allocs"] = v.Value
			default:
				values[v.Unit] = v.Value
			}
		}
		r.Add(string(base), peer.String(), round, values)
		n++
	}
	if err := lines.Err(); err != nil {
		return n, fmt.Errorf("read benchmarks: %w", err)
	}
	return n, nil
}
