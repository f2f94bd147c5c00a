// Package discovery turns what a policy names into backends, and follows the changes.
//
// Addresses are backends already. Host names are resolved by the servers of resolv.conf, again when the TTL has run
// out. Kubernetes Services are followed through their EndpointSlices, and only those of the named services are watched.
// Ranges (cidrs) are not looked up at all: the agent sees their backends in the traffic and keeps them in a Learned set.
//
// A source that fails keeps its last answer, says so in Status, and tries again; absence of an answer never removes
// a backend.
package discovery
