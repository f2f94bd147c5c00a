package tables

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// layoutVersion is raised when the meaning of a map's content changes while its BTF does not.
const layoutVersion = 3

// scratch is a map that is empty between two calls. It is never pinned: a former agent may have died during a call.
const scratch = "unreachables"

// Pinned reports whether a map of this name outlives the agent. Maps with a dot in their name hold the programs'
// own variables.
func Pinned(name string) bool { return !strings.Contains(name, ".") && name != scratch }

// sharedTypes is a struct of the types that maps hold but their BTF does not contain: the event in the ring, and the enums
// whose constants are stored in plain integers.
const sharedTypes = "types"

// Layout returns a hash of the properties that must be equal for an agent to adopt pinned maps: type, sizes, flags, and the
// BTF of key and value. The hash includes names of fields, because two fields of one type may have changed places, but not
// names of types. It returns an error when a map holds a type whose layout cannot be compared, such as a pointer.
func Layout(spec *ebpf.CollectionSpec) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, layoutVersion)
	for _, name := range slices.Sorted(maps.Keys(spec.Maps)) {
		if !Pinned(name) {
			continue
		}
		m := spec.Maps[name]
		fmt.Fprintln(h, name, m.Type, m.KeySize, m.ValueSize, m.MaxEntries, m.Flags)
		if m.Type == ebpf.RingBuf {
			continue
		}
		for _, t := range []btf.Type{m.Key, m.Value} {
			if err := writeType(h, t); err != nil {
				return "", fmt.Errorf("layout of map %s: %w", name, err)
			}
		}
	}
	var shared *btf.Struct
	if err := spec.Types.TypeByName(sharedTypes, &shared); err != nil {
		return "", fmt.Errorf("layout of struct %s: %w", sharedTypes, err)
	}
	if err := writeType(h, shared); err != nil {
		return "", fmt.Errorf("layout of struct %s: %w", sharedTypes, err)
	}
	return hex.EncodeToString(h.Sum(nil))[:12], nil
}

// writeType writes the properties of a type that determine the layout of a value.
func writeType(w io.Writer, t btf.Type) error {
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Int:
		fmt.Fprintln(w, "int", t.Size, t.Encoding)
	case *btf.Enum:
		fmt.Fprintln(w, "enum", t.Size, t.Signed)
		for _, v := range t.Values {
			fmt.Fprintln(w, v.Name, v.Value)
		}
	case *btf.Array:
		fmt.Fprintln(w, "array", t.Nelems)
		return writeType(w, t.Type)
	case *btf.Struct:
		fmt.Fprintln(w, "struct", t.Size)
		return writeMembers(w, t.Members)
	case *btf.Union:
		fmt.Fprintln(w, "union", t.Size)
		return writeMembers(w, t.Members)
	default:
		return fmt.Errorf("%v is not a type of a map's content", t)
	}
	return nil
}

func writeMembers(w io.Writer, members []btf.Member) error {
	fmt.Fprintln(w, len(members))
	for _, m := range members {
		fmt.Fprintln(w, m.Name, m.Offset, m.BitfieldSize)
		if err := writeType(w, m.Type); err != nil {
			return fmt.Errorf("field %s: %w", m.Name, err)
		}
	}
	return nil
}
