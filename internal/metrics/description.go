package metrics

import dto "github.com/prometheus/client_model/go"

// Description is what a family of series means.
type Description struct {
	Name   string
	Help   string
	Type   dto.MetricType
	Labels []string // besides policy, direction and backend
	Each   string   // what each series belongs to: circuit, policy, interface, source, agent ...
	When   string   // when a series exists; empty: always
}

var described []*Description

func describe(t dto.MetricType, each, name, help, when string, labels ...string) *Description {
	d := &Description{Name: "cbagent_" + name, Help: help, Type: t, Labels: labels, Each: each, When: when}
	described = append(described, d)
	return d
}

// Descriptions returns the agent's own metric families, in the order of the documentation.
func Descriptions() []*Description { return described }

const (
	counter   = dto.MetricType_COUNTER
	gauge     = dto.MetricType_GAUGE
	histogram = dto.MetricType_HISTOGRAM
)

// Series of each circuit. Labels policy, direction, backend.
var (
	circuitState = describe(gauge, "circuit", "circuit_state",
		"1 for the state of the circuit, 0 for the others. If the circuits of the policy are summed: the number of circuits in each state.", "", "state")
	circuitOverride = describe(gauge, "circuit", "circuit_override",
		"1 while an operator's mode overrides the policy's.", "while there is an override", "mode")
	circuitUntil = describe(gauge, "circuit", "circuit_until_timestamp_seconds",
		"When the opening, the ramp or the override ends, in seconds since 1970.", "while the state has an end")
	circuitStep = describe(gauge, "circuit", "circuit_backoff_step",
		"Step n of the backoff: it rises with each opening and falls while the circuit stays closed. The next opening's duration grows with it.", "")
	circuitTransitions = describe(counter, "circuit", "circuit_transitions_total",
		"Transitions of the circuit, by their reason.", "after the first", "from", "to", "reason")
	ejectionOverflows = describe(counter, "circuit", "ejection_overflows_total",
		"Trips that the ejection limits did not allow.", "")

	outcomes = describe(counter, "circuit", "outcomes_total",
		"Requests (http, grpc) or connection attempts (tcp) by how they ended: a class of statuses, a gRPC code by its name (grpc-unavailable), or another outcome's name.",
		"connection failures, 2xx to 5xx (http), grpc-ok and what is a failure by default (grpc): after the first call; others: after the first of their kind", "outcome")
	responses = describe(counter, "circuit", "responses_total",
		"Responses of the backend by status. A gRPC call is in cbagent_outcomes_total only.", "after the first of a status", "status")
	responseDuration = describe(histogram, "circuit", "response_duration_seconds",
		"Time from the request (tcp: the SYN) to the response (tcp: the SYN-ACK; gRPC: the end of the call), measured in the kernel.", "after the first response")
	unjudged = describe(counter, "circuit", "unjudged_outcomes_total",
		"Outcomes that were not judged: sent under an earlier verdict, without a permit, or while nothing was judged.", "")

	windowOutcomes = describe(gauge, "circuit", "window_outcomes", "Outcomes in the window now.", "")
	windowFailures = describe(gauge, "circuit", "window_failure_ratio", "Share of failures among the outcomes in the window.", "while the window is not empty")
	windowSlow     = describe(gauge, "circuit", "window_slow_ratio", "Share of slow outcomes in the window.", "while the window is not empty")
	windowLatency  = describe(gauge, "circuit", "window_latency_seconds", "Mean latency in the window.", "while a latency in it is known")

	otherProtocols = describe(counter, "circuit", "other_protocol_connections_total",
		"Connections of an http policy whose data are not read: tls, malformed-http2 (a preface, and later frames that are not readable), "+
			"proxy (a PROXY protocol header; requests behind it are observed) or other.",
		"after the first of a protocol", "protocol")

	connections = describe(gauge, "circuit", "connections", "Connections that are open, or being opened.", "")
	inFlight    = describe(gauge, "circuit", "requests_in_flight", "Requests that wait for their response.", "")
	admitted    = describe(counter, "circuit", "admitted_total", "Requests (http, grpc) or connections (tcp) that were admitted.", "")
	rejected    = describe(counter, "circuit", "rejected_total",
		"Clients that were rejected, by reason and answer. open, half-open and forced-open come from the circuit; "+
			"connection-limit, request-limit and rate-limit from limits.",
		"reason open, and those of limits that are set: always; others: after the first", "reason", "answer")
	wouldReject = describe(counter, "circuit", "would_reject_total",
		"Clients that were admitted only because of the mode monitor, of the policy or an operator.", "after the first", "reason")
	probes       = describe(counter, "circuit", "probe_permits_total", "Permits that were granted in half-open, including those returned unused.", "")
	overAdmitted = describe(counter, "circuit", "over_admitted_total",
		"Streams of HTTP/2 that were admitted although a limit or the circuit would have rejected them, because they shared a packet with an admitted one. Among admitted_total.",
		"after the first")
	takeovers = describe(counter, "circuit", "takeovers_total",
		"Open connections of HTTP/2 that were taken from the backend to answer a rejected stream: the backend got a reset.", "after the first")
	permitsUsed    = describe(gauge, "circuit", "probe_permits_used", "Permits of this half-open period that were granted and not returned.", "in half-open with probes")
	permitsOut     = describe(gauge, "circuit", "probe_permits_in_flight", "Permits of this half-open period whose probe has no outcome yet.", "in half-open with probes")
	rateAvailable  = describe(gauge, "circuit", "rate_limit_available", "Requests or connections that the rate limit would admit now.", "with a rate limit")
	backendInfo    = describe(gauge, "circuit", "backend_info", "1; the backend's properties.", "of backends that come from a Service or a host name", "kind", "source", "namespace", "pod", "node", "zone")
	foldedCircuits = describe(gauge, "policy", "policy_circuits_summed",
		"Circuits of the policy that have no series of their own: their sum is shown as backend \"*\", because there are more circuits than --metrics-circuits.", "if they are summed")
)

// Series of each policy. Labels policy, direction.
var (
	policyInfo = describe(gauge, "policy", "policy_info", "1; the policy's properties.", "", "mode", "scope", "protocol", "answer")
	known      = describe(gauge, "policy", "policy_backends", "Known backends of the policy.", "")
	ejected    = describe(gauge, "policy", "policy_ejections", "Circuits of the policy that are open, half-open or forced open, without half-open ones that have admitted no probe for 30 s or longer.", "")
	limit      = describe(gauge, "policy", "policy_limit",
		"Limits of each circuit: connections, requests, requests-per-connection; rate is in permissions a second, burst in permissions.", "of limits that are set", "limit")
	complete  = describe(gauge, "policy", "policy_discovery_complete", "1 when every source of the policy has answered at least once.", "")
	discovers = describe(gauge, "policy", "policy_discovery_failing", "1 when a source of the policy fails, or its answer can never match.", "")
)

// Series of sources, interfaces and hooks.
var (
	lookups       = describe(counter, "source", "discovery_lookups_total", "Lookups of a host, or started watches of a Service.", "", "kind", "source", "result")
	sourceStale   = describe(gauge, "source", "discovery_stale", "1 when the last lookup failed and an older answer is in use.", "", "kind", "source")
	sourceAnswers = describe(gauge, "source", "discovery_answers", "Addresses or endpoints in use.", "", "kind", "source")

	attached = describe(gauge, "interface", "interface_attached", "1 when the programs are attached to the interface, 0 when attaching fails.", "of chosen interfaces", "interface", "mode")
	packets  = describe(counter, "hook", "packets_total", "Packets by hook, action and reason.", "after the first", "hook", "action", "reason")
)

// Series of the agent.
var (
	buildInfo = describe(gauge, "agent", "build_info", "1; the agent's version.", "", "version", "goversion")
	ready     = describe(gauge, "agent", "ready", "1 when policies are in force and interfaces attached.", "")

	ringEvents     = describe(counter, "agent", "ring_events_total", "Events read from the kernel's ring.", "")
	ringLost       = describe(counter, "agent", "ring_events_lost_total", "Events that a full ring dropped. They are recovered from the kernel's totals.", "")
	ringRecovered  = describe(counter, "agent", "ring_events_recovered_total", "Dropped events of judged outcomes that were recovered from the kernel's totals.", "")
	reloads        = describe(counter, "agent", "policy_reloads_total", "Attempts to reload changed policies.", "", "result")
	reloadOK       = describe(gauge, "agent", "policy_reload_successful", "1 when the last reload succeeded; 0: the policies in force are older than their source.", "")
	reloadTime     = describe(gauge, "agent", "policy_loaded_timestamp_seconds", "When the policies in force were loaded, in seconds since 1970.", "")
	verdictLatency = describe(histogram, "agent", "verdict_latency_seconds",
		"Time from the outcome that decided a transition, measured in the kernel, to the verdict in the kernel.", "")
	flows        = describe(gauge, "agent", "flows", "Followed connections.", "")
	flowsMax     = describe(gauge, "agent", "flows_limit", "Size of the table of connections: --max-flows.", "")
	circuits     = describe(gauge, "agent", "circuits", "Circuits of all policies.", "")
	circuitsMax  = describe(gauge, "agent", "circuits_limit", "Size of the table of circuits: --max-circuits.", "")
	leaseExpired = describe(counter, "agent", "lease_expired_admissions_total", "Clients that were admitted only because the agent had not renewed its lease.", "")
	sweepTime    = describe(gauge, "agent", "sweep_duration_seconds", "Duration of the last sweep over all connections.", "")
	records      = describe(counter, "agent", "records_total", "Records of the history: transitions, overflows, overrides.", "")
	recordsLost  = describe(counter, "agent", "records_lost_total",
		"Records that a sink missed because it was too slow or failed: history is its file, log its lines, notice what was neither logged nor notified, kubernetes the API's events.", "sink kubernetes: with an API; others: always", "sink")
	stateBehind       = describe(gauge, "agent", "state_file_behind_seconds", "Age of the oldest change that is not in the state file; 0: it is complete, or there is none.", "")
	stateFailures     = describe(counter, "agent", "state_file_failures_total", "Attempts to write the state file that failed.", "")
	readers           = describe(gauge, "agent", "event_readers", "Current readers of events.", "")
	serverConnections = describe(gauge, "agent", "server_connections", "Current connections of clients to the agent's control socket and metrics address.", "of servers that are open", "server")
	serverEvicted     = describe(counter, "agent", "server_connections_evicted_total",
		"Connections that were closed while they waited for a request, to make room for new ones.", "of servers that are open", "server")
	serverRejected = describe(counter, "agent", "server_connections_rejected_total",
		"Connections that were answered with 503 and closed, because all others were busy.", "of servers that are open", "server")
	readersRejected = describe(counter, "agent", "event_readers_rejected_total", "Readers of events that were rejected because there were too many.", "")
	traceReaders    = describe(gauge, "agent", "trace_readers", "Current readers of traces. While there is one, every outcome is an event.", "")
	readersDropped  = describe(counter, "agent", "event_readers_dropped_total", "Events and outcomes that readers missed because they were too slow.", "")
)
