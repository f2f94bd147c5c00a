package tables

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/cbagent/cbagent/internal/bpf"
)

func mustLayout(t *testing.T, spec *ebpf.CollectionSpec) string {
	t.Helper()
	l, err := Layout(spec)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// holding returns the specification of one map, and of what the maps share.
func holding(t *testing.T, key, value, shared btf.Type) *ebpf.CollectionSpec {
	t.Helper()
	b, err := btf.NewBuilder([]btf.Type{&btf.Struct{
		Name: sharedTypes, Size: 4096, Members: []btf.Member{{Name: "shared", Type: shared}},
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	types, err := btf.LoadSpecFromReader(strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return &ebpf.CollectionSpec{
		Maps:  map[string]*ebpf.MapSpec{"things": {Type: ebpf.Hash, KeySize: 8, ValueSize: 8, MaxEntries: 1, Key: key, Value: value}},
		Types: types,
	}
}

// changes calls f once for each way in which a type can change, while it is changed; path says what has changed.
func changes(t *testing.T, path string, typ btf.Type, f func(path string)) {
	t.Helper()
	u32 := func(what string, p *uint32) {
		*p++
		f(path + " " + what)
		*p--
	}
	members := func(all *[]btf.Member) {
		whole := *all
		for i := range whole {
			m, at := &whole[i], path+"."+whole[i].Name
			*all = append(append([]btf.Member{}, whole[:i]...), whole[i+1:]...)
			f(at + " removed")
			*all = whole
			m.Name += "x"
			f(at + " name")
			m.Name = strings.TrimSuffix(m.Name, "x")
			m.Offset += 8
			f(at + " offset")
			m.Offset -= 8
			m.BitfieldSize++
			f(at + " bit field")
			m.BitfieldSize--
			changes(t, at, m.Type, f)
		}
	}
	switch typ := btf.UnderlyingType(typ).(type) {
	case *btf.Int:
		u32("size", &typ.Size)
		was := typ.Encoding
		typ.Encoding = btf.Bool
		f(path + " encoding")
		typ.Encoding = was
	case *btf.Enum:
		u32("size", &typ.Size)
		typ.Signed = !typ.Signed
		f(path + " sign")
		typ.Signed = !typ.Signed
		for i := range typ.Values {
			v := &typ.Values[i]
			v.Value += 1000
			f(fmt.Sprintf("%s %s value", path, v.Name))
			v.Value -= 1000
			v.Name += "X"
			f(fmt.Sprintf("%s %s name", path, v.Name))
			v.Name = strings.TrimSuffix(v.Name, "X")
		}
	case *btf.Array:
		u32("length", &typ.Nelems)
		changes(t, path+"[]", typ.Type, f)
	case *btf.Struct:
		u32("size", &typ.Size)
		members(&typ.Members)
	case *btf.Union:
		u32("size", &typ.Size)
		members(&typ.Members)
	default:
		t.Fatalf("%s: a %T is not expected in a map", path, typ)
	}
}

// exampleTypes returns one type of each kind that a map can hold.
func exampleTypes() (key, value, shared btf.Type) {
	u32 := &btf.Int{Name: "u32", Size: 4, Encoding: btf.Unsigned}
	key = &btf.Struct{Name: "key", Size: 8, Members: []btf.Member{
		{Name: "circuit", Type: &btf.Typedef{Name: "__u32", Type: u32}},
		{Name: "status", Type: &btf.Const{Type: u32}, Offset: 32},
	}}
	inner := &btf.Struct{Name: "slot", Size: 8, Members: []btf.Member{
		{Name: "until", Type: u32},
		{Name: "kind", Type: u32, Offset: 32, BitfieldSize: 4},
		{Name: "flags", Type: u32, Offset: 36, BitfieldSize: 4},
	}}
	value = &btf.Struct{Name: "value", Size: 32, Members: []btf.Member{
		{Name: "slots", Type: &btf.Array{Index: u32, Type: inner, Nelems: 2}},
		{Name: "either", Offset: 128, Type: &btf.Union{Size: 4, Members: []btf.Member{{Name: "a", Type: u32}, {Name: "b", Type: inner}}}},
	}}
	shared = &btf.Enum{Name: "phase", Size: 4, Values: []btf.EnumValue{{Name: "SYN", Value: 0}, {Name: "IDLE", Value: 1}}}
	return key, value, shared
}

func TestLayoutSeesEveryChangeOfAType(t *testing.T) {
	key, value, _ := exampleTypes()
	spec := func() *ebpf.CollectionSpec {
		_, _, shared := exampleTypes()
		return holding(t, key, value, shared)
	}
	before := mustLayout(t, spec())
	n := 0
	for name, typ := range map[string]btf.Type{"key": key, "value": value} {
		changes(t, name, typ, func(path string) {
			n++
			if mustLayout(t, spec()) == before {
				t.Errorf("%s has changed, the layout has not", path)
			}
		})
	}
	if n < 40 {
		t.Errorf("only %d changes were tried", n)
	}
	if mustLayout(t, spec()) != before {
		t.Error("the layout is another one although nothing has changed")
	}
}

func TestLayoutSeesConstants(t *testing.T) {
	key, value, shared := exampleTypes()
	before := mustLayout(t, holding(t, key, value, shared))
	enum := shared.(*btf.Enum)
	enum.Values[1].Value = 2
	if mustLayout(t, holding(t, key, value, shared)) == before {
		t.Error("a constant has changed, the layout has not")
	}
}

func TestLayoutSeesEveryChangeOfTheMaps(t *testing.T) {
	spec, err := bpf.LoadC()
	if err != nil {
		t.Fatal(err)
	}
	before := mustLayout(t, spec)
	n := 0
	for name, m := range spec.Maps {
		different := func(path string) {
			n++
			if (mustLayout(t, spec) != before) != Pinned(name) {
				t.Errorf("map %s, pinned: %v: %s has changed, the layout is %s, was %s", name, Pinned(name), path, mustLayout(t, spec), before)
			}
		}
		for what, field := range map[string]*uint32{
			"key size": &m.KeySize, "value size": &m.ValueSize, "max entries": &m.MaxEntries, "flags": &m.Flags,
		} {
			*field++
			different(what)
			*field--
		}
		if m.Type == ebpf.RingBuf || !Pinned(name) {
			continue
		}
		m.Type++
		different("type")
		m.Type--
		changes(t, "key", m.Key, different)
		changes(t, "value", m.Value, different)
	}
	if n < 1000 {
		t.Errorf("only %d changes were tried", n)
	}
	var shared *btf.Struct
	if err := spec.Types.TypeByName(sharedTypes, &shared); err != nil {
		t.Fatal(err)
	}
	changes(t, sharedTypes, shared, func(path string) {
		if mustLayout(t, spec) == before {
			t.Errorf("%s has changed, the layout has not", path)
		}
	})
	delete(spec.Maps, "learning")
	if mustLayout(t, spec) == before {
		t.Error("a map is gone, the layout is the same")
	}
}

// Maps hold constants in plain integers, whose BTF does not name the enum.
func TestLayoutCoversWhatTheProgramsStore(t *testing.T) {
	spec, err := bpf.LoadC()
	if err != nil {
		t.Fatal(err)
	}
	var shared *btf.Struct
	if err := spec.Types.TypeByName(sharedTypes, &shared); err != nil {
		t.Fatal(err)
	}
	has := map[string]bool{}
	for _, m := range shared.Members {
		has[m.Type.TypeName()] = true
	}
	header, err := os.ReadFile("../../bpf/types.h")
	if err != nil {
		t.Fatal(err)
	}
	enums := regexp.MustCompile(`(?m)^enum (\w+) \{`).FindAllStringSubmatch(string(header), -1)
	if len(enums) < 15 {
		t.Fatalf("%d enums in types.h", len(enums))
	}
	for _, name := range append(enums, []string{"", "event"}) {
		if name := name[1]; !has[name] {
			t.Errorf("struct %s lacks %s", sharedTypes, name)
		}
	}
}

func TestLayoutRejectsWhatItCannotCompare(t *testing.T) {
	_, value, shared := exampleTypes()
	if _, err := Layout(holding(t, &btf.Pointer{Target: value}, value, shared)); err == nil {
		t.Error("a map with a pointer as key has a layout")
	}
}
