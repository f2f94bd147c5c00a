// Command mutants checks that tests notice faults: it makes one known fault at a time in a copy of the tree, and runs the
// test that must fail because of it. It ends with status 1 when a fault survives, that is, when the test passes.
//
//	mutants [-run REGEXP] [-check] [-v]
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	run := flag.String("run", "", "only the mutants whose names match this regular `expression`")
	check := flag.Bool("check", false, "only check that each mutant can be made: its text is in its file exactly once")
	verbose := flag.Bool("v", false, "print what the tests say")
	flag.Parse()
	if err := mutate(*run, *check, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func mutate(run string, check, verbose bool) error {
	only, err := regexp.Compile(run)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	if err := sound(mutants); err != nil {
		return err
	}
	var chosen []mutant
	for _, m := range mutants {
		if only.MatchString(m.Name) {
			chosen = append(chosen, m)
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("no mutant matches %q", run)
	}
	if err := applicable(".", chosen); err != nil || check {
		return err
	}
	tree, err := copyTree()
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, unix.SIGTERM)
	go func() {
		<-stop
		_ = os.RemoveAll(tree)
		os.Exit(1)
	}()
	defer os.RemoveAll(tree)
	began := time.Now()
	l := &lab{tree: tree, verbose: verbose}
	if err := l.sane(chosen); err != nil {
		return err
	}
	survived := 0
	for _, m := range chosen {
		killed, err := l.try(m)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", m.Name, err)
		case killed:
			fmt.Printf("killed    %s\n", m.Name)
		default:
			survived++
			fmt.Printf("SURVIVED  %s: %s of %s passes\n", m.Name, m.Test, m.Package)
		}
	}
	fmt.Printf("%d mutants, %d survived, %s\n", len(chosen), survived, time.Since(began).Round(time.Second))
	if survived > 0 {
		return fmt.Errorf("%d mutants survived", survived)
	}
	return nil
}
