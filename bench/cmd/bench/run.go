package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cbagent/cbagent/bench/containment"
	"github.com/cbagent/cbagent/bench/overhead"
	"github.com/cbagent/cbagent/bench/packets"
	"github.com/cbagent/cbagent/bench/part"
	"github.com/cbagent/cbagent/bench/peer"
	"github.com/cbagent/cbagent/bench/rejection"
	"github.com/cbagent/cbagent/bench/report"
	"github.com/cbagent/cbagent/bench/row"
	"github.com/cbagent/cbagent/bench/scale"
	"github.com/cbagent/cbagent/bench/seeds"
	"github.com/cbagent/cbagent/bench/usage"
	"github.com/cbagent/cbagent/bench/verdict"
)

// parts in the order in which they run.
var parts = []part.Part{
	overhead.Part, rejection.Part, overhead.GRPC, rejection.GRPC, verdict.Part, containment.Part, containment.Full, seeds.Part, scale.Part, packets.Part,
	part.GoBenchmarks("kernel", "Every kind of packet is put to the programs again and again by BPF_PROG_TEST_RUN, and the programs to the verifier.", "."),
	part.GoBenchmarks("breaker", "What one outcome costs a circuit, beside other libraries, and 100,000 circuits in one process.", "."),
	part.GoBenchmarks("scrape", "An agent with 10,000 backends is scraped, before any of them was called and after each was.", "."),
}

type options struct {
	agent   string
	tools   string
	results string
	quick   bool
	rounds  int
	verbose bool
	beside  string
	parts   []string
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.agent, "agent", "bin/cbagent", "`path` of the agent")
	f.StringVar(&o.tools, "tools", "bin", "`folder` of fortio, vegeta and the benchmarks' binaries")
	f.StringVar(&o.results, "results", "bench/results", "`folder` that gets a JSON file of each part")
	f.BoolVar(&o.quick, "quick", false, "few and short rounds: does everything still run?")
	f.IntVar(&o.rounds, "rounds", 0, "`number` of rounds of each part (default: as each part needs)")
	f.StringVar(&o.beside, "beside", "", "`folder` of recorded results, whose ratios are printed beside those of this run")
	f.BoolVar(&o.verbose, "v", false, "print each row")
	f.Usage = func() {
		fmt.Fprintf(f.Output(), "bench [flags] [part]...    measure, and report\nbench report RESULTS [PAGE]   report again, and refresh a page\n\nParts (default: all but containment-full):\n")
		for _, p := range parts {
			fmt.Fprintf(f.Output(), "  %-12s %s\n", p.Name, p.About)
		}
		fmt.Fprintf(f.Output(), "\nFlags:\n")
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.parts = f.Args()
	for _, name := range o.parts {
		if !slices.ContainsFunc(parts, func(p part.Part) bool { return p.Name == name }) {
			return o, fmt.Errorf("no part %q", name)
		}
	}
	return o, nil
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if os.Getuid() != 0 {
		return errors.New("network namespaces and BPF need root")
	}
	level := slog.LevelInfo
	if o.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	agent, err := filepath.Abs(o.agent)
	if err != nil {
		return fmt.Errorf("find the agent: %w", err)
	}
	if err := os.MkdirAll(o.results, 0o755); err != nil {
		return fmt.Errorf("make the results' folder: %w", err)
	}
	tools, err := filepath.Abs(o.tools)
	if err != nil {
		return fmt.Errorf("find the tools: %w", err)
	}
	bench := &peer.Bench{Agent: agent, Self: self, Tools: tools}
	var errs []error
	for _, p := range parts {
		if !o.wants(p.Name) {
			continue
		}
		if err := measure(ctx, o, p, bench, log); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.Name, err))
		}
	}
	return errors.Join(append(errs, o.report())...)
}

// wants reports whether a part is to run.
func (o options) wants(name string) bool {
	if len(o.parts) == 0 {
		return name != containment.Full.Name
	}
	return slices.Contains(o.parts, name)
}

// report writes the report of the results, those of earlier runs of other parts among them.
func (o options) report() error {
	now, err := report.Load(o.results)
	if err != nil {
		return err
	}
	if o.beside != "" {
		recorded, err := report.Load(o.beside)
		if err != nil {
			return err
		}
		report.Compare(os.Stdout, report.Judge(now), report.Judge(recorded))
		return nil
	}
	printGoals(now)
	return report.Write(now, o.results)
}

// measure runs one part and writes its file.
func measure(ctx context.Context, o options, p part.Part, bench *peer.Bench, log *slog.Logger) error {
	rounds := p.Rounds
	if o.quick {
		rounds = p.Quick
	}
	if o.rounds > 0 {
		rounds = o.rounds
	}
	f := &row.File{
		Part: p.Name, About: p.About, Quick: o.quick, Rounds: rounds, Began: time.Now().UTC().Truncate(time.Second),
		Command: strings.TrimSpace(fmt.Sprintf("bench -rounds %d %s", rounds, p.Name)),
		Host:    row.ThisHost(versions(bench)),
	}
	var err error
	if f.Host.Others, err = othersBusy(ctx); err != nil {
		return err
	}
	log.Info("measuring a part", "part", p.Name, "rounds", rounds, "others", fmt.Sprintf("%.2f cores", f.Host.Others))
	err = p.Run(ctx, &part.Run{Bench: bench, Rounds: rounds, Quick: o.quick, Log: log, File: f})
	f.Ended = time.Now().UTC().Truncate(time.Second)
	f.Host.LoadAfter = row.LoadAverage()
	if err != nil {
		f.Left = append(f.Left, fmt.Sprintf("it ended early: %v", err))
		return errors.Join(err, f.Write(filepath.Join(o.results, p.Name+".json")))
	}
	log.Info("measured", "part", p.Name, "rows", len(f.Rows), "took", f.Ended.Sub(f.Began))
	return f.Write(filepath.Join(o.results, p.Name+".json"))
}

// versions are the commands that tell the versions of what is compared.
func versions(b *peer.Bench) map[string][]string {
	all := map[string][]string{"cbagent": {b.Agent, "--version"}, "nft": {"nft", "--version"}, "fortio": {filepath.Join(b.Tools, "fortio"), "version"}}
	for k, command := range map[peer.Kind][]string{peer.HAProxy: {"haproxy", "-v"}, peer.Nginx: {"nginx", "-v"}} {
		if peer.Missing(k) == nil {
			all[string(k)] = command
		}
	}
	return all
}

// othersBusy returns how many cores are busy while the bench does nothing.
func othersBusy(ctx context.Context) (float64, error) {
	const watch = time.Second
	before, err := usage.Busy()
	if err != nil {
		return 0, err
	}
	select {
	case <-time.After(watch):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	after, err := usage.Busy()
	if err != nil {
		return 0, err
	}
	return (after - before).Seconds() / watch.Seconds(), nil
}
