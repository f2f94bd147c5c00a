// Package policy reads what operators write: policy files, strictly, with every error at its place.
//
// The format is described once, by the Go types in file.go: their struct tags hold names, defaults, ranges and
// enumerations, from which both the decoder and the JSON Schema in docs work. Everything that involves more than
// one key is in resolve.go.

//go:generate go run ./schemagen ../../docs/policy.schema.json
package policy
