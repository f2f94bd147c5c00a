// Package agent wires the parts together: policies and discovery on one side, the kernel's datapath on the other, one
// circuit breaker for each backend between them. It owns the event loop and the clock.
package agent
