// Package ledger keeps the accounts between the programs in the kernel and the circuits of package breaker. It imports
// no ebpf, reads no clock and writes no log.
package ledger
