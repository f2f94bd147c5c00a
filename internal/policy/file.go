package policy

// The types in this file are the format of a policy file. Tags:
//
//	json     the key
//	default  the built-in default, in YAML
//	range    what is accepted: "1..100", "0s..1h", "(0..1" without the 0
//	bounds   what is accepted: the breaker.Bounds of that name
//	enum     what is accepted, separated by commas

// File is a policy file.
type File struct {
	// Version of the format.
	Version int `json:"version,omitempty" default:"1" range:"1..1"`
	// Defaults for all policies of this file. They merge key by key; a list and trip replace as a whole; null takes a
	// default back.
	Defaults *Keys `json:"defaults,omitempty"`
	// Policies, in the order in which they matter.
	Policies []Spec `json:"policies"`
}

// Spec is a policy as it is written.
type Spec struct {
	// Name is a DNS label, unique over all files.
	Name string `json:"name"`
	// Match says which backends belong to the policy; at least one entry. A backend may belong to one policy of a
	// direction.
	Match MatchSpec `json:"match"`
	Keys
}

// Keys are the keys of a policy that may have a default in the file.
type Keys struct {
	// Mode is enforce, monitor (the state machine runs and no client is rejected), disabled (admit all, judge nothing) or
	// forced-open (reject all).
	Mode string `json:"mode" default:"enforce" enum:"enforce,monitor,disabled,forced-open"`
	// Scope is backend (a circuit for each backend) or policy (one circuit for all of them).
	Scope string `json:"scope" default:"backend" enum:"backend,policy"`
	// Direction is outbound (clients on this node) or inbound (clients from elsewhere, backends on this node).
	Direction string `json:"direction" default:"outbound" enum:"outbound,inbound"`
	// Protocol is http, grpc (the same, for policies whose clients call gRPC) or tcp (connection outcomes only).
	Protocol  string         `json:"protocol" default:"http" enum:"http,grpc,tcp"`
	Exempt    ExemptSpec     `json:"exempt"`
	Outcome   OutcomeSpec    `json:"outcome"`
	Window    WindowSpec     `json:"window"`
	Trip      Trip           `json:"trip" default:"{any: [{consecutiveFailures: 5}, {all: [{minCalls: 20}, {failureRate: 0.5}]}]}"`
	Open      OpenSpec       `json:"open"`
	HalfOpen  HalfOpenSpec   `json:"halfOpen"`
	Ejection  EjectionSpec   `json:"ejection"`
	Reject    RejectSpec     `json:"reject"`
	Limits    LimitsSpec     `json:"limits"`
	RateLimit *RateLimitSpec `json:"rateLimit,omitempty"`
}

// MatchSpec names backends. Addresses are endpoints as seen after NAT.
type MatchSpec struct {
	// Addresses are ADDRESS:PORT; IPv6 in brackets.
	Addresses []string `json:"addresses,omitempty"`
	// CIDRs are PREFIX:PORT; the backends in them are learned from traffic.
	CIDRs []string `json:"cidrs,omitempty"`
	// Hosts are NAME:PORT, looked up in DNS (A and AAAA) again and again as the TTL says.
	Hosts []string `json:"hosts,omitempty"`
	// Services are Kubernetes NAMESPACE/NAME:PORT, the port by name or number.
	Services []string `json:"services,omitempty"`
}

// ExemptSpec names clients that are neither judged nor rejected.
type ExemptSpec struct {
	// NodeHealthChecks exempts, on Kubernetes, the node's own checks of its own pods.
	NodeHealthChecks bool `json:"nodeHealthChecks" default:"true"`
	// Sources are clients: CIDRs or addresses.
	Sources []string `json:"sources,omitempty"`
}

// OutcomeSpec says what a failure is.
type OutcomeSpec struct {
	// Failure lists what counts as a failure: statuses 503, classes 5xx, ranges 500-504, connect-refused,
	// connect-timeout, unreachable, reset, timeout, abandoned, aborted, raced, h2-refused, h2-reset, and grpc- with the
	// name of a gRPC code.
	Failure Outcomes `json:"failure" default:"[5xx, connect-refused, connect-timeout, unreachable, reset, timeout, abandoned, h2-refused, h2-reset, grpc-unknown, grpc-deadline-exceeded, grpc-internal, grpc-unavailable, grpc-data-loss]"`
	// Ignore lists what is counted in metrics only. It wins over failure.
	Ignore Outcomes `json:"ignore" default:"[aborted]"`
	// Slow is the time above which a response is slow; 0 = nothing is slow.
	Slow Duration `json:"slow" default:"0s" bounds:"outcome.slow"`
	// Timeout is the time without a response after which the outcome is timeout; 0 = never.
	Timeout Duration `json:"timeout" default:"30s" range:"0s..24h"`
	// Patience: a client that leaves after it has waited so long for a response is abandoned, before it aborted; 0 =
	// always aborted.
	Patience Duration `json:"patience" default:"2s" range:"0s..24h"`
	// ConnectTimeout is the time without a SYN-ACK after which the outcome is connect-timeout; 0 = never.
	ConnectTimeout Duration `json:"connectTimeout" default:"3s" range:"0s..24h"`
}

// WindowSpec is the memory of a circuit.
type WindowSpec struct {
	// Type is time or count.
	Type string `json:"type" default:"time" enum:"time,count"`
	// Size is a duration for a time window (1s..1h, default 10s) or a number of outcomes for a count window
	// (1..100000, default 100).
	Size Size `json:"size" default:"10s"`
	// Bucket is for time windows only and divides size. Default 1s, or size/10 where size is below 10s or 1s does not
	// divide it.
	Bucket Duration `json:"bucket,omitzero" bounds:"window.bucket"`
}

// OpenSpec says how long a circuit stays open.
type OpenSpec struct {
	// Duration of the first opening.
	Duration Duration `json:"duration" default:"30s" bounds:"open.duration"`
	// Backoff of the n-th opening: none, linear (n x duration) or exponential (duration x multiplier^(n-1)).
	Backoff string `json:"backoff" default:"exponential" enum:"none,linear,exponential"`
	// Multiplier of exponential backoff.
	Multiplier float64 `json:"multiplier" default:"2" bounds:"open.multiplier"`
	// Max caps the result, after jitter. Default the larger of 5m and duration.
	Max Duration `json:"max" default:"5m" bounds:"open.max"`
	// Jitter is the share of the duration that is added or taken away at random, drawn once per opening.
	Jitter float64 `json:"jitter" default:"0" bounds:"open.jitter"`
}

// HalfOpenSpec says how a circuit finds out whether its backend has recovered.
type HalfOpenSpec struct {
	// Calls is the number of probes that must finish; 0 = straight back to closed.
	Calls int `json:"calls" default:"3" bounds:"halfOpen.calls"`
	// Concurrent is the number of probes in flight at once; default, and at most, calls.
	Concurrent int `json:"concurrent" default:"3" bounds:"halfOpen.concurrent"`
	// Tolerate is the number of probes that may fail or be slow, below calls; one more re-opens at once.
	Tolerate int `json:"tolerate" default:"0" bounds:"halfOpen.tolerate"`
	// Timeout, from a probe's admission: a probe that has not reported by then has failed.
	Timeout Duration `json:"timeout" default:"30s" bounds:"halfOpen.timeout"`
	// Ramp admits a growing share of the requests instead of a number of probes.
	Ramp *RampSpec `json:"ramp"`
}

// RampSpec admits a share of the requests that grows linearly with time.
type RampSpec struct {
	// From is the share admitted at first.
	From float64 `json:"from" default:"0.1" bounds:"halfOpen.ramp.from"`
	// To is the share admitted at the end.
	To float64 `json:"to" default:"1" bounds:"halfOpen.ramp.to"`
	// Over is the time that it takes.
	Over Duration `json:"over" default:"60s" bounds:"halfOpen.ramp.over"`
}

// EjectionSpec keeps the circuits of one policy from taking too many backends away at once. For scope backend only.
type EjectionSpec struct {
	// MaxPercent of the policy's known backends.
	MaxPercent float64 `json:"maxPercent" default:"100" bounds:"ejection.maxPercent"`
	// MinHealthy backends are always left.
	MinHealthy int `json:"minHealthy" default:"0" bounds:"ejection.minHealthy"`
}

// RejectSpec says what a client gets who is rejected.
type RejectSpec struct {
	// With is respond, reset or drop; default respond, for tcp reset.
	With string `json:"with" default:"respond" enum:"respond,reset,drop"`
	// Existing: also reject requests on connections that are already open; default true, for tcp false.
	Existing bool `json:"existing" default:"true"`
	// Status of the answer: 200 to 599, except 204, 205 and 304.
	Status int `json:"status" default:"503" range:"200..599"`
	// GRPCStatus is the code of the answer to a gRPC call; with the default, limits answer 8 (resource-exhausted).
	GRPCStatus int `json:"grpcStatus" default:"14" range:"0..16"`
	// Message is the grpc-message of the answer to a gRPC call. The default, '', names what rejects, the policy and the
	// reason.
	Message string `json:"message" default:"''"`
	// ContentType of the body; empty = no such header.
	ContentType string `json:"contentType" default:"application/json"`
	// Body, up to 1,000 bytes: the degraded content. The default, '', is {"error":"..."} with what rejects: circuit open,
	// connection limit, request limit or rate limit.
	Body string `json:"body" default:"''"`
	// RetryAfter adds the header of that name with the seconds until the next probe.
	RetryAfter bool `json:"retryAfter" default:"true"`
	// Headers are more headers of the answer. The whole answer fits 1,200 bytes.
	Headers map[string]string `json:"headers" default:"{}"`
}

// LimitsSpec are limits of each circuit, as this node sees it; 0 = no limit.
type LimitsSpec struct {
	// MaxConnections open at once.
	MaxConnections int `json:"maxConnections" default:"0" range:"0..1000000000"`
	// MaxRequests in flight.
	MaxRequests int `json:"maxRequests" default:"0" range:"0..1000000000"`
	// MaxRequestsPerConnection, after which the connection is closed.
	MaxRequestsPerConnection int `json:"maxRequestsPerConnection" default:"0" range:"0..1000000000"`
}

// RateLimitSpec lets through at most burst + limit x d / period in any span d.
type RateLimitSpec struct {
	// Limit is the number of requests (http, grpc) or new connections (tcp) in a period. Required.
	Limit int `json:"limit" range:"1..1000000000"`
	// Period that limit is for.
	Period Duration `json:"period" default:"1s" range:"1ms..24h"`
	// Burst is the number let through at once; default limit.
	Burst int `json:"burst" range:"1..1000000000"`
	// Status of the answer: 200 to 599, except 204, 205 and 304.
	Status int `json:"status" default:"429" range:"200..599"`
}

// TripSpec is a tripper: exactly one of these keys. Every comparison is >=.
type TripSpec struct {
	// Any is true when one of them is.
	Any []Trip `json:"any,omitempty"`
	// All is true when all of them are.
	All []Trip `json:"all,omitempty"`
	// Not is true when the other is not.
	Not *Trip `json:"not,omitempty"`
	// MinCalls trips when so many outcomes are in the window.
	MinCalls *int `json:"minCalls,omitempty" bounds:"minCalls"`
	// FailureRate trips when failures / total reaches it; never on an empty window.
	FailureRate *float64 `json:"failureRate,omitempty" bounds:"failureRate"`
	// SlowRate trips when slow / total reaches it.
	SlowRate *SlowRate `json:"slowRate,omitempty"`
	// FailureCount trips when so many failures are in the window.
	FailureCount *int `json:"failureCount,omitempty" bounds:"failureCount"`
	// ConsecutiveFailures trips when so many last outcomes were all failures.
	ConsecutiveFailures *Consecutive `json:"consecutiveFailures,omitempty"`
	// AvgLatency trips when the mean latency reaches it.
	AvgLatency *Duration `json:"avgLatency,omitempty" bounds:"avgLatency"`
	// SuccessRateOutlier trips when the success rate is below that of the policy's other backends.
	SuccessRateOutlier *OutlierSpec `json:"successRateOutlier,omitempty"`
	// PendingAge trips when a request has been unanswered for so long.
	PendingAge *Duration `json:"pendingAge,omitempty" bounds:"pendingAge"`
	// MinClients trips when the window's failures came from so many client addresses.
	MinClients *int `json:"minClients,omitempty" bounds:"minClients"`
	// State is true while the circuit is in that state.
	State *string `json:"state,omitempty" enum:"closed,half-open"`
}

// SlowRateSpec is the long form of slowRate.
type SlowRateSpec struct {
	// Rate of slow outcomes. Required.
	Rate float64 `json:"rate" bounds:"slowRate"`
	// Over is the time above which an outcome is slow; default outcome.slow.
	Over Duration `json:"over,omitzero" bounds:"slowRate.over"`
}

// ConsecutiveSpec is the long form of consecutiveFailures.
type ConsecutiveSpec struct {
	// Count of outcomes. Required.
	Count int `json:"count" bounds:"consecutiveFailures"`
	// Of: only these outcomes count, any other ends the streak; default any failure.
	Of Outcomes `json:"of,omitempty"`
}

// OutlierSpec compares a backend with the others.
type OutlierSpec struct {
	// Stdev is the number of standard deviations below the mean.
	Stdev float64 `json:"stdev" default:"1.9" bounds:"successRateOutlier.stdev"`
	// MinBackends with MinCalls must there be.
	MinBackends int `json:"minBackends" default:"5" bounds:"successRateOutlier.minBackends"`
	// MinCalls in its window a backend must have to be looked at.
	MinCalls int `json:"minCalls" default:"100" bounds:"successRateOutlier.minCalls"`
}
