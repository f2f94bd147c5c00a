package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"
	"go.yaml.in/yaml/v4"

	"github.com/cbagent/cbagent/internal/policy"
)

// Shapes of values that JSON Schema has no type for. They are a little wider than what the agent accepts.
const (
	durationPattern = `^[+-]?([0-9]*(\.[0-9]*)?(ns|us|µs|μs|ms|s|m|h))+$`
	statusPattern   = `[1-9][0-9][0-9]|[1-9]xx|[1-9][0-9][0-9]-[1-9][0-9][0-9]`
)

// outcomePattern is that of an outcome, by status or name.
var outcomePattern = "^(" + statusPattern + "|" + strings.Join(policy.OutcomeNames(), "|") + ")$"

// schema returns the JSON Schema of policy.File. Descriptions are the comments of the Go files in the working directory,
// which must be that of the package.
func schema() ([]byte, error) {
	r := jsonschema.Reflector{
		Anonymous:                  true,
		RequiredFromJSONSchemaTags: true,
		Mapper:                     mapped,
	}
	const path = "github.com/cbagent/cbagent/internal/policy"
	if err := r.AddGoComments(path, ".", jsonschema.WithFullComment()); err != nil {
		return nil, fmt.Errorf("read the comments of package policy: %w", err)
	}
	for name, comment := range r.CommentMap {
		r.CommentMap[name] = strings.Join(strings.Fields(comment), " ")
	}
	s := r.Reflect(&policy.File{})
	s.Title = "cbagent policies"
	for _, t := range structs(reflect.TypeFor[policy.File](), nil) {
		if definition := s.Definitions[t.Name()]; definition != nil {
			refine(definition, t)
		}
	}
	require(s.Definitions["File"], "policies")
	require(s.Definitions["Spec"], "name", "match")
	require(s.Definitions["SlowRate"], "rate")
	require(s.Definitions["Consecutive"], "count")
	trippers(s.Definitions)
	headers, _ := s.Definitions["RejectSpec"].Properties.Get("headers")
	headers.AnyOf[0].AdditionalProperties = orNull(headers.AnyOf[0].AdditionalProperties)

	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(s); err != nil {
		return nil, fmt.Errorf("encode the schema: %w", err)
	}
	return out.Bytes(), nil
}

// mapped gives the types that read themselves their shape.
func mapped(t reflect.Type) *jsonschema.Schema {
	zero := &jsonschema.Schema{Const: 0}
	duration := &jsonschema.Schema{Type: "string", Pattern: durationPattern}
	switch t {
	case reflect.TypeFor[policy.Duration]():
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{duration, zero}}
	case reflect.TypeFor[policy.Size]():
		count := &jsonschema.Schema{Type: "integer", Minimum: "1", Maximum: "100000"}
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{duration, count}}
	case reflect.TypeFor[policy.Outcomes]():
		status := &jsonschema.Schema{Type: "integer", Minimum: "100", Maximum: "999"}
		class := &jsonschema.Schema{Type: "string", Pattern: outcomePattern}
		return &jsonschema.Schema{
			Type:  "array",
			Items: &jsonschema.Schema{AnyOf: []*jsonschema.Schema{status, class}},
		}
	}
	return nil
}

// structs returns t and all struct types of the package that it is made of.
func structs(t reflect.Type, known []reflect.Type) []reflect.Type {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		return structs(t.Elem(), known)
	case reflect.Struct:
		if slices.Contains(known, t) {
			return known
		}
		known = append(known, t)
		for f := range t.Fields() {
			known = structs(f.Type, known)
		}
	}
	return known
}

// refine adds to the definition of t what the tags of its fields say.
func refine(definition *jsonschema.Schema, t reflect.Type) {
	for f := range t.Fields() {
		if f.Anonymous {
			refine(definition, f.Type)
			continue
		}
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		property, ok := definition.Properties.Get(key)
		if !ok {
			panic("no property " + key + " in " + t.Name())
		}
		if enum := f.Tag.Get("enum"); enum != "" {
			for _, name := range strings.Split(enum, ",") {
				property.Enum = append(property.Enum, name)
			}
		}
		if r := policy.RangeOf(f.Tag); r != "" {
			limit(property, r)
		}
		if text, ok := f.Tag.Lookup("default"); ok {
			if err := yaml.Load([]byte(text), &property.Default); err != nil {
				panic(fmt.Sprintf("default of %s: %v", key, err))
			}
		}
		if key != "name" && key != "match" && key != "policies" {
			definition.Properties.Set(key, orNull(property))
		}
	}
}

// limit adds a range to a number, or a sentence about it to a duration.
func limit(property *jsonschema.Schema, text string) {
	low, high, _ := strings.Cut(text, "..")
	low, exclusive := strings.CutPrefix(low, "(")
	if property.Type != "integer" && property.Type != "number" {
		property.Description = strings.TrimSuffix(property.Description, ".") + fmt.Sprintf(" (%s to %s).", low, high)
		return
	}
	property.Maximum = json.Number(high)
	if exclusive {
		property.ExclusiveMinimum = json.Number(low)
	} else {
		property.Minimum = json.Number(low)
	}
}

// orNull also accepts null, which takes a default back.
func orNull(property *jsonschema.Schema) *jsonschema.Schema {
	outer := &jsonschema.Schema{
		Description: property.Description,
		Default:     property.Default,
	}
	property.Description, property.Default = "", nil
	outer.AnyOf = []*jsonschema.Schema{property, {Type: "null"}}
	if len(property.AnyOf) > 0 {
		outer.AnyOf = append(slices.Clone(property.AnyOf), &jsonschema.Schema{Type: "null"})
	}
	return outer
}

func require(definition *jsonschema.Schema, keys ...string) {
	definition.Required = keys
}

// trippers makes the definitions of trippers say that each has one key, and of those with a short form that it is allowed.
func trippers(definitions jsonschema.Definitions) {
	one := uint64(1)
	tripper := definitions["Trip"]
	tripper.MinProperties, tripper.MaxProperties = &one, &one
	definitions["Tripper"] = tripper
	definitions["Trip"] = &jsonschema.Schema{
		Description: "A tripper; a list means any.",
		AnyOf: []*jsonschema.Schema{
			{Ref: "#/$defs/Tripper"},
			{Type: "array", MinItems: &one, Items: &jsonschema.Schema{Ref: "#/$defs/Trip"}},
		},
	}
	short := func(name, key string) {
		long := definitions[name]
		value, _ := long.Properties.Get(key)
		definitions[name] = &jsonschema.Schema{AnyOf: append([]*jsonschema.Schema{long}, value.AnyOf...)}
	}
	short("SlowRate", "rate")
	short("Consecutive", "count")
}
