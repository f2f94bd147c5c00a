// Package breaker decides when a backend must be left alone and when it may be tried again.
//
// It holds windows, trippers, circuits and ejection. It does no I/O, starts no goroutine, and never reads a clock:
// every method that needs the time takes it. The same code judges the outcomes that the kernel observed and the
// recorded ones of a trace.
//
// Nothing in this package is safe for concurrent use; one goroutine owns a Group and its circuits.
package breaker
