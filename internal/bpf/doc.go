// Package bpf is the compiled programs of the folder bpf, and the Go types of what they share with the agent. All but this
// page is generated: C stands before the names of C, so that CVerdict is struct verdict.
package bpf
