// Package discovery finds the backends of the targets that a policy names, and follows their changes. Addresses are
// backends already. Host names are resolved by the servers of resolv.conf, again when the TTL has expired. Kubernetes
// Services are followed through their EndpointSlices, and only those of the named services are watched. Ranges (cidrs) are
// not looked up at all: the agent sees their backends in the traffic and keeps them in a Learned set. A source that fails
// keeps its last answer, reports the failure in Status, and tries again. A missing answer never removes a backend.
package discovery
