// Package breaker compares cbagent's breaker with other libraries: that it decides alike where the meanings coincide, and
// what an outcome costs.
package breaker
