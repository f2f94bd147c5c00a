package policy

import (
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/cbagent/cbagent/internal/nearest"
)

// field is a key of a struct type, with those of embedded structs.
type field struct {
	key   string
	index []int
	tag   reflect.StructTag
}

func fieldsOf(t reflect.Type) []field {
	var all []field
	for f := range t.Fields() {
		if f.Anonymous {
			for _, inner := range fieldsOf(f.Type) {
				inner.index = append([]int{f.Index[0]}, inner.index...)
				all = append(all, inner)
			}
			continue
		}
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		all = append(all, field{key: key, index: f.Index, tag: f.Tag})
	}
	return all
}

// fillDefaults sets the fields of v, if it is a struct, to the values in their default tags.
func fillDefaults(v reflect.Value) {
	if v.Kind() != reflect.Struct {
		return
	}
	for _, f := range fieldsOf(v.Type()) {
		target := v.FieldByIndex(f.index)
		text, ok := f.tag.Lookup("default")
		switch {
		case ok:
			var doc yaml.Node
			if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
				panic(fmt.Sprintf("default of %s: %v", f.key, err))
			}
			s := newScope(newDecoder("built-in defaults"), "", &doc)
			s.value(doc.Content[0], target, target, f.key, f.tag)
			if len(s.errs) > 0 {
				panic(s.errs)
			}
		case target.Kind() == reflect.Struct && !isNodeDecoder(target):
			fillDefaults(target)
		}
	}
}

func isNodeDecoder(v reflect.Value) bool {
	_, ok := v.Addr().Interface().(nodeDecoder)
	return ok
}

// suggest names the key that was probably meant, or all that there are.
func suggest(got string, known []string) string {
	if near := nearest.Names(got, known); len(near) > 0 {
		return "did you mean " + near[0] + "?"
	}
	return "there are " + strings.Join(known, ", ")
}
