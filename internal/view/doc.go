// Package view holds the visible state of an agent: the snapshot of a moment, and the records of events. Metrics, the
// control socket and the page all use these, so that they agree.
package view
