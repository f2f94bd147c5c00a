// Package ledger keeps the accounts between the programs in the kernel and the circuits of package breaker: what a circuit
// has been given of its verdict's counts, what lies between two events, what is late, what is lost, and what a circuit's
// state is as a verdict.
//
// A Book holds an Account for each circuit and owns the buffer of the breaker's events. Every change of a circuit goes
// through a method of Book, Group or Account, which puts the new verdict in force and then hands the events to the
// function that the group was made with.
//
// The package imports no ebpf, reads no clock and writes no log. A Book is for one goroutine at a time.
package ledger
