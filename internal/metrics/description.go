package metrics

import dto "github.com/prometheus/client_model/go"

// Description is what a family of series means.
type Description struct {
	Name   string
	Help   string
	Type   dto.MetricType
	Labels []string // besides policy, direction and backend
	Each   string   // of what there is a series: circuit, policy, interface, source, agent ...
	When   string   // when a series is there; empty: always
}

var described []*Description

func describe(t dto.MetricType, each, name, help, when string, labels ...string) *Description {
	d := &Description{Name: "cbagent_" + name, Help: help, Type: t, Labels: labels, Each: each, When: when}
	described = append(described, d)
	return d
}

// Descriptions returns what each family of the agent's own means, in the order of the documentation.
func Descriptions() []*Description { return described }

const (
	counter   = dto.MetricType_COUNTER
	gauge     = dto.MetricType_GAUGE
	histogram = dto.MetricType_HISTOGRAM
)

// Series of each circuit. Labels policy, direction, backend.
var (
	circuitState = describe(gauge, "circuit", "circuit_state",
		"1 for the state that the circuit is in, 0 for the others. Of a policy whose circuits are summed: how many are in each.", "", "state")
	circuitOverride = describe(gauge, "circuit", "circuit_override",
		"1 while an operator's mode is in the place of the policy's.", "while there is an override", "mode")
	circuitUntil = describe(gauge, "circuit", "circuit_until_timestamp_seconds",
		"When the opening, the ramp or the override ends, in seconds since 1970.", "while the state has an end")
	circuitStep = describe(gauge, "circuit", "circuit_backoff_step",
		"Openings so far, less those earned back; the next opening's duration grows with it.", "")
	circuitTransitions = describe(counter, "circuit", "circuit_transitions_total",
		"Changes of state, by what caused them.", "after the first", "from", "to", "reason")
	ejectionOverflows = describe(counter, "circuit", "ejection_overflows_total",
		"Trips that the ejection limits did not allow.", "")

	outcomes = describe(counter, "circuit", "outcomes_total",
		"Requests (http) or connection attempts (tcp) by how they ended: a class of statuses, or an outcome's name.",
		"2xx to 5xx and what a policy can call a failure: after the first call; others: after the first of their kind", "outcome")
	responses = describe(counter, "circuit", "responses_total",
		"Responses of the backend by status.", "after the first of a status", "status")
	responseDuration = describe(histogram, "circuit", "response_duration_seconds",
		"Time from the request (tcp: the SYN) to the response (tcp: the SYN-ACK), as the kernel saw it.", "after the first response")
	unjudged = describe(counter, "circuit", "unjudged_outcomes_total",
		"Outcomes that were not judged: sent under an earlier verdict, without a permit, or while nothing was judged.", "")

	windowOutcomes = describe(gauge, "circuit", "window_outcomes", "Outcomes in the window now.", "")
	windowFailures = describe(gauge, "circuit", "window_failure_ratio", "Failures of the outcomes in the window.", "while the window is not empty")
	windowSlow     = describe(gauge, "circuit", "window_slow_ratio", "Slow ones of the outcomes in the window.", "while the window is not empty")
	windowLatency  = describe(gauge, "circuit", "window_latency_seconds", "Mean latency in the window.", "while a latency in it is known")

	otherProtocols = describe(counter, "circuit", "other_protocol_connections_total",
		"Connections of an http policy that begin with something else than an HTTP/1 request: tls, http2 (without TLS), "+
			"proxy (a PROXY protocol header; requests behind it are observed) or other.",
		"after the first of a protocol", "protocol")

	connections = describe(gauge, "circuit", "connections", "Connections that are open, or being opened.", "")
	inFlight    = describe(gauge, "circuit", "requests_in_flight", "Requests that wait for their response.", "")
	admitted    = describe(counter, "circuit", "admitted_total", "Requests (http) or connections (tcp) that were let through.", "")
	rejected    = describe(counter, "circuit", "rejected_total",
		"Clients that were rejected: why, and what they got. open, half-open and forced-open are the circuit's doing; "+
			"connection-limit, request-limit and rate-limit are limits.",
		"reason open, and those of limits that are set: always; others: after the first", "reason", "answer")
	wouldReject = describe(counter, "circuit", "would_reject_total",
		"Clients that were let through only because the policy or an operator says monitor.", "after the first", "reason")
	probes         = describe(counter, "circuit", "probe_permits_total", "Permits that were handed out in half-open, those given back unused included.", "")
	permitsUsed    = describe(gauge, "circuit", "probe_permits_used", "Permits of this half-open period that were handed out and not given back.", "in half-open with probes")
	permitsOut     = describe(gauge, "circuit", "probe_permits_in_flight", "Permits of this half-open period whose probe has not reported.", "in half-open with probes")
	rateAvailable  = describe(gauge, "circuit", "rate_limit_available", "Requests or connections that the rate limit would let through at this moment.", "with a rate limit")
	backendInfo    = describe(gauge, "circuit", "backend_info", "1; what is known of the backend.", "of backends that come from a Service or a host name", "kind", "source", "namespace", "pod", "node", "zone")
	foldedCircuits = describe(gauge, "policy", "policy_circuits_summed",
		"Circuits of the policy that have no series of their own: their sum is shown as backend \"*\", since there are more circuits than --metrics-circuits.", "when they are summed")
)

// Series of each policy. Labels policy, direction.
var (
	policyInfo = describe(gauge, "policy", "policy_info", "1; what the policy is.", "", "mode", "scope", "protocol", "answer")
	known      = describe(gauge, "policy", "policy_backends", "Backends of the policy that are known.", "")
	ejected    = describe(gauge, "policy", "policy_ejections", "Circuits of the policy that are open, half-open or forced open, less those half-open ones that admitted no probe for long.", "")
	limit      = describe(gauge, "policy", "policy_limit",
		"Limits of each circuit: connections, requests, requests-per-connection; rate is in permissions a second, burst in permissions.", "of limits that are set", "limit")
	complete  = describe(gauge, "policy", "policy_discovery_complete", "1 when every source of the policy has answered at least once.", "")
	discovers = describe(gauge, "policy", "policy_discovery_failing", "1 when some source of the policy fails, or answers with what can never match.", "")
)

// Series of sources, interfaces and hooks.
var (
	lookups       = describe(counter, "source", "discovery_lookups_total", "Lookups of a host, or watches of a Service that were begun.", "", "kind", "source", "result")
	sourceStale   = describe(gauge, "source", "discovery_stale", "1 when the last lookup failed and an older answer is in use.", "", "kind", "source")
	sourceAnswers = describe(gauge, "source", "discovery_answers", "Addresses or endpoints in use.", "", "kind", "source")

	attached = describe(gauge, "interface", "interface_attached", "1 when the programs are on the interface, 0 when attaching fails.", "of interfaces that are asked for", "interface", "mode")
	packets  = describe(counter, "hook", "packets_total", "Packets by the program that saw them, what it did, and why.", "after the first", "hook", "action", "reason")
)

// Series of the agent.
var (
	buildInfo = describe(gauge, "agent", "build_info", "1; which agent this is.", "", "version", "goversion")
	ready     = describe(gauge, "agent", "ready", "1 when policies are in force and interfaces attached.", "")

	ringEvents     = describe(counter, "agent", "ring_events_total", "Events read from the kernel's ring.", "")
	ringLost       = describe(counter, "agent", "ring_events_lost_total", "Events that found the ring full. What they said is recovered from the kernel's totals.", "")
	ringRecovered  = describe(counter, "agent", "ring_events_recovered_total", "Lost events of judged outcomes that were put into the windows from the kernel's totals.", "")
	reloads        = describe(counter, "agent", "policy_reloads_total", "Attempts to take over changed policies.", "", "result")
	reloadOK       = describe(gauge, "agent", "policy_reload_successful", "1 when the last reload was taken over; 0: the policies in force are older than their source.", "")
	reloadTime     = describe(gauge, "agent", "policy_loaded_timestamp_seconds", "When the policies in force were taken over, in seconds since 1970.", "")
	verdictLatency = describe(histogram, "agent", "verdict_latency_seconds",
		"Time from the outcome that decided a transition, as the kernel saw it, to the verdict in the kernel.", "")
	flows        = describe(gauge, "agent", "flows", "Connections that are followed.", "")
	flowsMax     = describe(gauge, "agent", "flows_limit", "Connections that can be followed: --max-flows.", "")
	circuits     = describe(gauge, "agent", "circuits", "Circuits of all policies.", "")
	circuitsMax  = describe(gauge, "agent", "circuits_limit", "Circuits that fit: --max-circuits.", "")
	leaseExpired = describe(counter, "agent", "lease_expired_admissions_total", "Clients that were let through only because the agent had not renewed its lease.", "")
	sweepTime    = describe(gauge, "agent", "sweep_duration_seconds", "How long the last look at all connections took.", "")
	records      = describe(counter, "agent", "records_total", "Records of the history: transitions, overflows, overrides.", "")
	recordsLost  = describe(counter, "agent", "records_lost_total",
		"Records that a sink missed because it was too slow or failed: history is its file, log its lines, notice what was neither logged nor notified, kubernetes the API's events.", "sink kubernetes: with an API; others: always", "sink")
	stateBehind       = describe(gauge, "agent", "state_file_behind_seconds", "For how long the state file has lacked something; 0: it is whole, or there is none.", "")
	stateFailures     = describe(counter, "agent", "state_file_failures_total", "Attempts to write the state file that failed.", "")
	readers           = describe(gauge, "agent", "event_readers", "Readers of events now.", "")
	serverConnections = describe(gauge, "agent", "server_connections", "Connections of clients to the agent's control socket and metrics address now.", "of servers that are open", "server")
	serverEvicted     = describe(counter, "agent", "server_connections_evicted_total",
		"Connections that were closed while they waited for a request, to make room for new ones.", "of servers that are open", "server")
	serverRejected = describe(counter, "agent", "server_connections_rejected_total",
		"Connections that were answered with 503 and closed, since all others were busy.", "of servers that are open", "server")
	readersRejected = describe(counter, "agent", "event_readers_rejected_total", "Readers of events that were rejected because too many read already.", "")
	traceReaders    = describe(gauge, "agent", "trace_readers", "Readers of traces now. While there is one, the kernel tells of every outcome.", "")
	readersDropped  = describe(counter, "agent", "event_readers_dropped_total", "Events and outcomes that readers missed because they were too slow.", "")
)
