package loader

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/cilium/ebpf"

	"github.com/cbagent/cbagent/internal/bpf"
)

// programs are those that not every node needs, by their name in C. Each is loaded at its first use: the verifier takes a
// fifth of a second for the largest, and a kernel that does not support the type of one still runs the others.
type programs map[string]*ebpf.Program

// program returns one of d.programs. d.mu is held.
func (d *Datapath) program(name string) (*ebpf.Program, error) {
	if p := d.programs[name]; p != nil {
		return p, nil
	}
	p, err := d.loadOne(name)
	if err != nil {
		return nil, err
	}
	d.programs[name] = p
	return p, nil
}

// loadOne loads a single program that uses the loaded maps.
func (d *Datapath) loadOne(name string) (*ebpf.Program, error) {
	spec, err := bpf.LoadC()
	if err != nil {
		return nil, fmt.Errorf("read the programs: %w", err)
	}
	for other := range spec.Programs {
		if other != name {
			delete(spec.Programs, other)
		}
	}
	replace := map[string]*ebpf.Map{}
	maps := reflect.ValueOf(d.objs.CMaps)
	for i := range maps.NumField() {
		m, mapName := maps.Field(i).Interface().(*ebpf.Map), maps.Type().Field(i).Tag.Get("ebpf")
		replace[mapName] = m
		spec.Maps[mapName].MaxEntries = m.MaxEntries()
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: replace})
	if err != nil {
		return nil, fmt.Errorf("load program %s: %w", name, err)
	}
	defer coll.Close()
	return coll.DetachProgram(name), nil
}

func (p programs) close() error {
	var errs []error
	for _, one := range p {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}

// Program returns one of the programs by its name in C, for BPF_PROG_TEST_RUN. The caller closes it.
func (d *Datapath) Program(name string) (*ebpf.Program, error) { return d.loadOne(name) }
