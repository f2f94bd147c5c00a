package loader

import (
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// staticFields is the static table, from index 1 on.
func staticFields(t testing.TB) []hpack.HeaderField {
	t.Helper()
	var fields []hpack.HeaderField
	for i := range uint64(61) {
		f, err := hpack.NewDecoder(0, nil).DecodeFull(indexed(i + 1))
		if err != nil {
			t.Fatal(err)
		}
		fields = append(fields, f...)
	}
	return fields
}

// isLookedFor reports whether the walk looks for fields of this name.
func isLookedFor(name string) bool {
	return name == ":status" || name == "grpc-status" || name == "content-type" || name == ":method"
}

// variedEncoder encodes fields in all forms that HPACK has for them, also in those that no encoder chooses.
type variedEncoder struct {
	rnd    *rand.Rand
	static []hpack.HeaderField
	table  []hpack.HeaderField // the dynamic table, the latest entry first
	size   uint32
	max    uint32
}

func (e *variedEncoder) evict(limit uint32) {
	for e.size > limit {
		last := len(e.table) - 1
		e.size -= e.table[last].Size()
		e.table = e.table[:last]
	}
}

func (e *variedEncoder) resize(to []byte, limit uint32) []byte {
	e.max = limit
	e.evict(limit)
	return append(to, resize(uint64(limit))...)
}

func (e *variedEncoder) insert(f hpack.HeaderField) {
	if f.Size() > e.max {
		e.evict(0)
		return
	}
	e.evict(e.max - f.Size())
	e.table = slices.Insert(e.table, 0, hpack.HeaderField{Name: f.Name, Value: f.Value})
	e.size += f.Size()
}

// remembered returns the number of entries of fields that the walk looks for.
func (e *variedEncoder) remembered() int {
	n := 0
	for _, f := range e.table {
		if isLookedFor(f.Name) {
			n++
		}
	}
	return n
}

// entries returns an index of an entry with the field's name, and one of an entry with its value as well; 0 if there is none, or
// instead of any.
func (e *variedEncoder) entries(f hpack.HeaderField) (name, pair uint64) {
	names, pairs := uint64(0), uint64(0)
	see := func(i int, entry hpack.HeaderField) {
		if entry.Name != f.Name {
			return
		}
		if names++; e.rnd.Uint64N(names) == 0 {
			name = uint64(i + 1)
		}
		if entry.Value != f.Value {
			return
		}
		if pairs++; e.rnd.Uint64N(pairs) == 0 {
			pair = uint64(i + 1)
		}
	}
	for i, entry := range e.static {
		see(i, entry)
	}
	for i, entry := range e.table {
		see(len(e.static)+i, entry)
	}
	if e.rnd.IntN(4) == 0 {
		name = 0
	}
	if e.rnd.IntN(4) == 0 {
		pair = 0
	}
	return name, pair
}

func (e *variedEncoder) longer() int {
	if e.rnd.IntN(16) > 0 {
		return 0
	}
	return e.rnd.IntN(3)
}

func (e *variedEncoder) text(to []byte, s string) []byte {
	if e.rnd.IntN(2) == 0 {
		return append(number(to, 0, 7, uint64(len(s)), e.longer()), s...)
	}
	return hpack.AppendHuffmanString(number(to, 0x80, 7, hpack.HuffmanEncodeLength(s), e.longer()), s)
}

func (e *variedEncoder) field(to []byte, f hpack.HeaderField) []byte {
	name, pair := e.entries(f)
	form := e.rnd.IntN(4)
	switch {
	case f.Sensitive:
		to = number(to, 0x10, 4, name, e.longer())
	case pair > 0:
		return number(to, 0x80, 7, pair, e.longer())
	case form == 0:
		to = number(to, 0x10, 4, name, e.longer())
	case form == 1:
		to = number(to, 0, 4, name, e.longer())
	default:
		to = number(to, 0x40, 6, name, e.longer())
		e.insert(f)
	}
	if name == 0 {
		to = e.text(to, f.Name)
	}
	return e.text(to, f.Value)
}
