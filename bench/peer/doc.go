// Package peer starts what stands between clients and a backend: cbagent, and the proxies that it is compared with,
// each in the node of a network of its own.
package peer
