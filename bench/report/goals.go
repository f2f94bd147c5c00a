package report

import (
	"slices"

	"github.com/cbagent/cbagent/bench/row"
)

// Cases that goals name.
const (
	leak500      = "500, 400 rps, after 1s"
	leak500New   = "500, 400 rps, after 1s, new connections"
	leak500Slow  = "500, 100 rps, after 1s"
	leak500Fast  = "500, 1600 rps, after 1s"
	leak500Long  = "500, 400 rps, after 11s"
	leakByRate   = "500, 400 rps, after 11s, by rate"
	leakHang     = "hang, 400 rps, after 1s"
	withStreak   = "cbagent, a streak beside the rate"
	withLimits   = "cbagent, pendingAge and maxRequests"
	nginxClosing = "nginx 503, keepalive_timeout 0"
)

// over are the leaks beyond what cannot be helped, with keep-alive and without, at every rate.
var over = func() (all []pick) {
	for _, of := range []string{leak500, leak500New, leak500Slow, leak500Fast, leak500Long} {
		all = append(all, pick{"containment", of, "cbagent", "over"})
	}
	return all
}()

// goals of the project, in the order of docs/performance.md.
var goals = []Goal{
	{
		Name: "added p50, keep-alive, 1 connection", Want: "at most 0.1 x HAProxy's", Limit: 0.1,
		estimate: func(s Set) (row.Estimate, error) { return s.addedBy("keep-alive/1", "p50_us") },
	},
	{
		Name: "throughput, keep-alive, 16 connections, fortio and a Go server", Want: "not resolvable from direct's", Limit: 1, AtLeast: true,
		reaches: true, estimate: func(s Set) (row.Estimate, error) { return s.throughput("fortio to a Go server/16") },
	},
	{
		Name: "throughput, keep-alive, 16 connections, leanest client and backend", Want: "not resolvable from direct's", Limit: 1, AtLeast: true,
		reaches: true, estimate: func(s Set) (row.Estimate, error) { return s.throughput("keep-alive/16") },
	},
	{
		Name: "throughput of gRPC calls, 16 at once, fortio and grpc-go", Want: "not resolvable from direct's", Limit: 1, AtLeast: true,
		reaches: true, estimate: func(s Set) (row.Estimate, error) { return s.calls("fortio to grpc-go/16") },
	},
	{
		Name: "throughput of gRPC calls, 16 at once, leanest client and backend", Want: "not resolvable from direct's", Limit: 1, AtLeast: true,
		reaches: true, estimate: func(s Set) (row.Estimate, error) { return s.calls("calls/16") },
	},
	{
		Name: "agent's CPU per request, keep-alive", Want: "at most 1/20 of HAProxy's", Limit: 0.05,
		estimate: func(s Set) (row.Estimate, error) { return s.cpu("keep-alive/16") },
	},
	{
		Name: "agent's CPU per request, new connections", Want: "at most 1/20 of HAProxy's", Limit: 0.05,
		estimate: func(s Set) (row.Estimate, error) { return s.cpu("new/16") },
	},
	{
		Name: "CPU added to the machine, softirq included, keep-alive", Want: "at most 1/4 of HAProxy's", Limit: 0.25,
		estimate: func(s Set) (row.Estimate, error) { return s.addedBy("keep-alive/16", "machine_s_per_100k") },
	},
	{
		Name: "CPU added to the machine, softirq included, new connections", Want: "at most 1/4 of HAProxy's", Limit: 0.25,
		estimate: func(s Set) (row.Estimate, error) { return s.addedBy("new/16", "machine_s_per_100k") },
	},
	{
		Name: "agent's CPU per gRPC call", Want: "at most 1/20 of HAProxy's", Limit: 0.05,
		estimate: func(s Set) (row.Estimate, error) {
			return s.ratio(pick{"grpc", "calls/16", "cbagent", "cpu_s_per_100k"}, pick{"grpc", "calls/16", "haproxy", "cpu_s_per_100k"})
		},
	},
	{
		Name: "CPU added to the machine by gRPC calls, softirq included", Want: "at most 1/4 of HAProxy's", Limit: 0.25,
		estimate: func(s Set) (row.Estimate, error) {
			const value = "machine_s_per_100k"
			return s.added(pick{"grpc", "calls/16", "cbagent", value}, pick{"grpc", "calls/16", "haproxy", value}, pick{"grpc", "calls/16", "direct", value})
		},
	},
	{
		Name: "RSS, 1,000 backends and 50,000 connections; HAProxy's drawn on from 0 and 9,000", Want: "at most 2 x HAProxy's", Limit: 2,
		estimate: func(s Set) (row.Estimate, error) {
			return s.estimate([]pick{
				{"scale", "flows/50000", "cbagent", "rss_mb"},
				{"scale", "connections/0", "haproxy", "rss_mb"},
				{"scale", "connections/9000", "haproxy", "rss_mb"},
			}, func(v [][]float64) float64 {
				none, some := row.Median(v[1]), row.Median(v[2])
				return row.Median(v[0]) / (none + (some-none)*50_000/9_000)
			})
		},
	},
	{
		Name: "the same beside HAProxy with 9,000, as many as one process may open here", Want: "(says less)", Limit: 2,
		estimate: func(s Set) (row.Estimate, error) {
			return s.ratio(pick{"scale", "flows/50000", "cbagent", "rss_mb"}, pick{"scale", "connections/9000", "haproxy", "rss_mb"})
		},
	},
	{
		Name: "leaked to a backend that answers 500, beyond 4 and what was in flight, median", Want: "0", Limit: 0,
		estimate: func(s Set) (row.Estimate, error) {
			return s.estimate(over, func(v [][]float64) float64 { return row.Median(slices.Concat(v...)) })
		},
	},
	{
		Name: "the same, worst of all runs", Want: "0", Limit: 0,
		estimate: func(s Set) (row.Estimate, error) { return s.worst(over...) },
	},
	{
		Name: "leaked, 11 s of good traffic before, judged by rate", Want: "at most 1/10 of oxy's", Limit: 0.1,
		estimate: func(s Set) (row.Estimate, error) {
			return s.ratio(pick{"containment", leakByRate, withStreak, "leaked"}, pick{"containment", leakByRate, "oxy", "leaked"})
		},
	},
	{
		Name: "leaked to a backend that hangs", Want: "at most 1/10 of HAProxy's", Limit: 0.1,
		estimate: func(s Set) (row.Estimate, error) {
			return s.ratio(pick{"containment", leakHang, withLimits, "leaked"}, pick{"containment", leakHang, "haproxy", "leaked"})
		},
	},
	{
		Name: "p50 of a rejection, new connection, one client", Want: "at most 0.3 x HAProxy's 503", Limit: 0.3,
		estimate: func(s Set) (row.Estimate, error) { return s.rejection("new/1", "p50_us", "haproxy 503") },
	},
	{
		Name: "the same, 16 clients", Want: "at most 0.3 x HAProxy's 503", Limit: 0.3,
		estimate: func(s Set) (row.Estimate, error) { return s.rejection("new/16", "p50_us", "haproxy 503") },
	},
	{
		Name: "p50 of a rejection, one client that keeps connections", Want: "at most 1 x HAProxy's 503", Limit: 1,
		estimate: func(s Set) (row.Estimate, error) { return s.rejection("keep-alive/1", "p50_us", "haproxy 503") },
	},
	{
		Name: "the same, 16 clients that keep connections", Want: "at most 1 x HAProxy's 503", Limit: 1,
		estimate: func(s Set) (row.Estimate, error) { return s.rejection("keep-alive/16", "p50_us", "haproxy 503") },
	},
	{
		Name: "rejections a second, new connections", Want: "at least 2 x nginx's", Limit: 2, AtLeast: true,
		estimate: func(s Set) (row.Estimate, error) { return s.rejection("new/16", "rate_rps", nginxClosing) },
	},
	{
		Name: "p50 of a rejected gRPC call, one client", Want: "at most 0.5 x HAProxy's grpc-status 14", Limit: 0.5,
		estimate: func(s Set) (row.Estimate, error) { return s.rejectedCalls("calls/1", "p50_us") },
	},
	{
		Name: "rejected gRPC calls a second, 16 clients", Want: "at least 2 x HAProxy's", Limit: 2, AtLeast: true,
		estimate: func(s Set) (row.Estimate, error) { return s.rejectedCalls("calls/16", "rate_rps") },
	},
	{
		Name: "ns added to a packet, port not watched", Want: "at most 5 more than an empty program", Limit: 5,
		estimate: func(s Set) (row.Estimate, error) {
			return s.median(pick{"packets", "port not watched, to", "cbagent", "added_ns"})
		},
	},
	{
		Name: "ns added to a packet, pure ACK to a backend", Want: "at most 60 more than an empty program", Limit: 60,
		estimate: func(s Set) (row.Estimate, error) {
			return s.median(pick{"packets", "pure ACK, to a backend", "cbagent", "added_ns"})
		},
	},
	{
		Name: "ns added to a packet, pure ACK from a backend", Want: "at most 60 more than an empty program", Limit: 60,
		estimate: func(s Set) (row.Estimate, error) {
			return s.median(pick{"packets", "pure ACK, from a backend", "cbagent", "added_ns"})
		},
	},
	{
		Name: "ns of a pure ACK to a backend", Want: "at most 1.6 x a parse and a lookup", Limit: 1.6,
		estimate: func(s Set) (row.Estimate, error) { return s.references("watched, pure ACK") },
	},
	{
		Name: "ns of a pure ACK from a backend", Want: "at most 1.6 x a parse and a lookup", Limit: 1.6,
		estimate: func(s Set) (row.Estimate, error) { return s.references("watched, pure ACK, ingress") },
	},
	{
		Name: "ns of a request and its response, beyond two empty programs", Want: "at most 5 x a parse and a lookup", Limit: 5,
		estimate: func(s Set) (row.Estimate, error) { return s.references("watched, request and response") },
	},
	{
		Name: "ns of a request and its response in HTTP/2, beyond two empty programs", Want: "at most 12 x a parse and a lookup", Limit: 12,
		estimate: func(s Set) (row.Estimate, error) { return s.references("watched, request and response in HTTP2") },
	},
	{
		Name: "ns of a gRPC call, beyond two empty programs", Want: "at most 12 x a parse and a lookup", Limit: 12,
		estimate: func(s Set) (row.Estimate, error) { return s.references("watched, gRPC call") },
	},
	{
		Name: "SYN to an ejected backend, reset by TC, beyond what sending it costs", Want: "at most 0.5 x nft's reject with tcp reset", Limit: 0.5,
		estimate: func(s Set) (row.Estimate, error) { return s.syn("cbagent reset", "") },
	},
	{
		Name: "the same on a node that tracks connections, as kube-proxy has it", Want: "at most 0.5 x nft's reject with tcp reset", Limit: 0.5,
		estimate: func(s Set) (row.Estimate, error) { return s.syn("cbagent reset", ", conntrack") },
	},
	{
		Name: "SYN to an ejected backend, reset by XDP (generic), beyond what sending it costs", Want: "at most 0.5 x nft's reject with tcp reset", Limit: 0.5,
		estimate: func(s Set) (row.Estimate, error) { return s.syn("cbagent reset, XDP", "") },
	},
	{
		Name: "p50 from an outcome to its verdict", Want: "at most 1.5 x a ring's wake-up and a map's write", Limit: 1.5,
		estimate: func(s Set) (row.Estimate, error) {
			return s.ratio(pick{"verdict", "verdict", "cbagent", "p50_us"}, pick{"verdict", "verdict", "floor", "p50_us"})
		},
	},
	{
		Name: "vegeta: answers of 200", Want: "at least 0.95 x HAProxy's with its queue", Limit: 0.95, AtLeast: true,
		estimate: func(s Set) (row.Estimate, error) { return s.vegeta("share_200") },
	},
	{
		Name: "vegeta: p99", Want: "below HAProxy's", Limit: 1,
		estimate: func(s Set) (row.Estimate, error) { return s.vegeta("p99_200_ms") },
	},
	{
		Name: "ns per outcome: tripper and window", Want: "at most 1 x failsafe-go's count window", Limit: 1,
		estimate: func(s Set) (row.Estimate, error) {
			return s.ratio(pick{"breaker", "Outcome", "cbagent count window/ask+record", "ns"},
				pick{"breaker", "Outcome", "failsafe-go count window/ask+record", "ns"})
		},
	},
	{
		Name: "allocations per outcome", Want: "0", Limit: 0,
		estimate: func(s Set) (row.Estimate, error) {
			return s.worst(pick{"breaker", "Outcome", "cbagent count window/ask+record", "allocs"},
				pick{"breaker", "Outcome", "cbagent time window, every tripper/ask+record", "allocs"})
		},
	},
}

func (s Set) addedBy(of, value string) (row.Estimate, error) {
	return s.added(pick{"overhead", of, "cbagent", value}, pick{"overhead", of, "haproxy", value}, pick{"overhead", of, "direct", value})
}

func (s Set) throughput(of string) (row.Estimate, error) {
	return s.ratio(pick{"overhead", of, "cbagent", "rate_rps"}, pick{"overhead", of, "direct", "rate_rps"})
}

func (s Set) calls(of string) (row.Estimate, error) {
	return s.ratio(pick{"grpc", of, "cbagent", "rate_rps"}, pick{"grpc", of, "direct", "rate_rps"})
}

func (s Set) rejectedCalls(of, value string) (row.Estimate, error) {
	return s.ratio(pick{"grpc-rejection", of, "cbagent", value}, pick{"grpc-rejection", of, "haproxy", value})
}

// references is what packets of a kind cost in the programs, in runs of the reference program: nanoseconds of two machines cannot
// be compared.
func (s Set) references(kind string) (row.Estimate, error) {
	return s.ratio(pick{"kernel", "Packet", kind + "/IPv4", "ns"}, pick{"kernel", "Packet", "reference/IPv4", "ns"})
}

func (s Set) cpu(of string) (row.Estimate, error) {
	return s.ratio(pick{"overhead", of, "cbagent", "cpu_s_per_100k"}, pick{"overhead", of, "haproxy", "cpu_s_per_100k"})
}

func (s Set) rejection(of, value, than string) (row.Estimate, error) {
	return s.ratio(pick{"rejection", of, "cbagent 503", value}, pick{"rejection", of, than, value})
}

func (s Set) syn(way, on string) (row.Estimate, error) {
	return s.added(pick{"packets", "SYN", way + on, "ns"}, pick{"packets", "SYN", "nft reject with tcp reset" + on, "ns"},
		pick{"packets", "SYN", "dropped on entering the node", "ns"})
}

func (s Set) vegeta(value string) (row.Estimate, error) {
	return s.ratio(pick{"seeds", "vegeta", "cbagent", value}, pick{"seeds", "vegeta", "haproxy", value})
}
