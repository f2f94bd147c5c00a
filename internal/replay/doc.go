// Package replay runs a recorded trace of outcomes through the breaker on a virtual clock: what would this policy have
// done? It uses the very circuits that the agent uses, and no kernel.
package replay
