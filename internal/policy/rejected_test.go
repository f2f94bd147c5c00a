package policy

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func mustRead(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Each text stands below the name and match of policies[0], from line 4, column 3.
func TestRejected(t *testing.T) {
	const outcome = "must be a status (503), a class (5xx), a range (500-504), connect-refused, connect-timeout, unreachable, reset, timeout, " +
		"abandoned, aborted, raced, h2-refused, h2-reset, or grpc- and the name of a gRPC code (grpc-unavailable)"
	for _, test := range []struct{ text, want string }{
		{"mode: on", `4:9: policies[0].mode: must be one of enforce, monitor, disabled, forced-open, got "on"`},
		{"mode: [enforce]", "4:9: policies[0].mode: must be a string, got a list"},
		{"mode: true", "4:9: policies[0].mode: must be a string, got true; put it in quotes"},
		{"scope: node", `4:10: policies[0].scope: must be one of backend, policy, got "node"`},
		{"direction: both", `4:14: policies[0].direction: must be one of outbound, inbound, got "both"`},
		{"protocol: quic", `4:13: policies[0].protocol: must be one of http, grpc, tcp, got "quic"`},
		{"Mode: monitor", "4:3: policies[0].Mode: unknown key; did you mean mode?"},
		{"mode: monitor\nmode: monitor", "5:3: policies[0].mode: given twice, first in line 4"},
		{"<<: {mode: monitor}", "4:3: policies[0]: merge keys are not supported; use defaults"},
		{"? [a]\n: 1", "4:5: policies[0]: a key must be a plain word, got a list"},

		{"exempt: {nodeHealthChecks: yes}", `4:30: policies[0].exempt.nodeHealthChecks: must be true or false, got "yes"`},
		{"exempt: {nodeHealthChecks: 1}", "4:30: policies[0].exempt.nodeHealthChecks: must be true or false, got 1"},
		{"exempt: {sources: [orders]}", `4:22: policies[0].exempt.sources[0]: must be a prefix such as 192.0.2.0/24 or an address, got "orders"`},
		{"exempt: {sources: [192.0.2.7/24]}", `4:22: policies[0].exempt.sources[0]: must have no bits after the prefix, got "192.0.2.7/24"; it would be 192.0.2.0/24`},
		{"exempt: {sources: '192.0.2.0/24'}", `4:21: policies[0].exempt.sources: must be a list, got "192.0.2.0/24"`},
		{"exempt: true", "4:11: policies[0].exempt: must be a map, got true"},

		{"outcome: {failure: 5xx}", `4:22: policies[0].outcome.failure: must be a list, got "5xx"`},
		{"outcome: {failure: [503, 504-500]}", "4:28: policies[0].outcome.failure[1]: " + outcome + ", got 504-500"},
		{"outcome: {patience: 25h}", "4:23: policies[0].outcome.patience: must be between 0s and 24h, got 25h"},
		{"outcome: {failure: [99]}", "4:23: policies[0].outcome.failure[0]: " + outcome + ", got 99"},
		{"outcome: {ignore: [[503]]}", "4:22: policies[0].outcome.ignore[0]: " + outcome + ", got a list"},
		{"outcome: {ignore: [unknown]}", "4:22: policies[0].outcome.ignore[0]: " + outcome + ", got unknown"},
		{"outcome: {failure: [tls-handshake-failed]}", "4:23: policies[0].outcome.failure[0]: " + outcome + ", got tls-handshake-failed"},
		{"outcome: {failure: [unavailable]}", "4:23: policies[0].outcome.failure[0]: " + outcome + ", got unavailable"},
		{"outcome: {failure: [grpc-unavailble]}", "4:23: policies[0].outcome.failure[0]: " + outcome + ", got grpc-unavailble; did you mean grpc-unavailable?"},
		{"outcome: {failure: [GRPC_DATA_LOSS]}", "4:23: policies[0].outcome.failure[0]: " + outcome + ", got GRPC_DATA_LOSS; did you mean grpc-data-loss?"},
		{"outcome: {failure: [grpc-14]}", "4:23: policies[0].outcome.failure[0]: " + outcome + ", got grpc-14; did you mean grpc-unavailable?"},
		{"outcome: {failure: [grpc-17]}", "4:23: policies[0].outcome.failure[0]: " + outcome + ", got grpc-17"},
		{"outcome: {failure: [grpc-xyzzyq]}", "4:23: policies[0].outcome.failure[0]: " + outcome + ", got grpc-xyzzyq"},
		{"outcome: {failure: [h2-cancel]}", "4:23: policies[0].outcome.failure[0]: " + outcome + ", got h2-cancel"},
		{"outcome: {slow: 5}", "4:19: policies[0].outcome.slow: must be a duration such as 30s, got 5"},
		{"outcome: {slow: -1s}", "4:19: policies[0].outcome.slow: must be between 0s and 24h, got -1s"},
		{"outcome: {timeout: 25h}", "4:22: policies[0].outcome.timeout: must be between 0s and 24h, got 25h"},
		{"outcome: {connectTimeout: soon}", `4:29: policies[0].outcome.connectTimeout: must be a duration such as 30s, got "soon"`},

		{"window: {type: sliding}", `4:18: policies[0].window.type: must be one of time, count, got "sliding"`},
		{"window: {size: 0s}", "4:18: policies[0].window.size: must be between 1s and 1h, got 0s"},
		{"window: {size: 61m}", "4:18: policies[0].window.size: must be between 1s and 1h, got 1h1m"},
		{"window: {size: 10}", "4:18: policies[0].window.size: must be a duration between 1s and 1h for a time window, got 10"},
		{"window: {size: big}", `4:18: policies[0].window.size: must be a duration such as 10s, or a number of outcomes for a count window, got "big"`},
		{"window: {size: 1000000001ns}", "4:18: policies[0].window.size: must be divisible by 10, or have a bucket of its own, got 1.000000001s"},
		{"window: {bucket: 3s}", "4:20: policies[0].window.bucket: must divide the window's size of 10s, got 3s"},
		{"window: {bucket: 20s}", "4:20: policies[0].window.bucket: must divide the window's size of 10s, got 20s"},
		{"window: {bucket: 0s}", "4:20: policies[0].window.bucket: must be between 1ms and 1h, got 0s"},
		{"window: {size: 1h, bucket: 10ms}", "4:30: policies[0].window.bucket: must make at most 100000 buckets of the window's size of 1h, got 10ms"},
		{"window: {type: count, size: 0}", "4:31: policies[0].window.size: must be between 1 and 100000, got 0"},
		{"window: {type: count, size: 100001}", "4:31: policies[0].window.size: must be between 1 and 100000, got 100001"},
		{"window: {type: count, size: 10s}", "4:31: policies[0].window.size: must be a number of outcomes between 1 and 100000 for a count window, got 10s"},
		{"window: {type: count, bucket: 1s}", "4:33: policies[0].window.bucket: must not be given for a count window"},

		{"trip: 5", "4:9: policies[0].trip: must be a map with one key, or a list, got 5"},
		{"trip: {}", "4:9: policies[0].trip: must have exactly one key, got none; combine trippers with any or all"},
		{"trip: []", "4:9: policies[0].trip: must have at least one tripper"},
		{"trip: {any: []}", "4:15: policies[0].trip.any: must have at least one tripper"},
		{"trip: {all: []}", "4:15: policies[0].trip.all: must have at least one tripper"},
		{"trip: {not: null}", "4:9: policies[0].trip: must have a value"},
		{"trip: {minCalls: 5, failureRate: 0.5}", "4:9: policies[0].trip: must have exactly one key, got minCalls, failureRate; combine trippers with any or all"},
		{"trip: {minCalls: 5, failureRate: 2}", "4:9: policies[0].trip: must have exactly one key, got minCalls, failureRate; combine trippers with any or all\n" +
			"p.yaml:4:36: policies[0].trip.failureRate: must be above 0 and at most 1, got 2"},
		{"trip:\n- all:\n  - failurRate: 0.5", "6:7: policies[0].trip[0].all[0].failurRate: unknown key; did you mean failureRate?"},
		{"trip: {any: {failureRate: 0.5}}", "4:15: policies[0].trip.any: must be a list, got a map"},
		{"trip: {any: [failureRate]}", `4:16: policies[0].trip.any[0]: must be a map with one key, or a list, got "failureRate"`},
		{"trip: {state: closed}", "4:9: policies[0].trip: must look at outcomes: state alone trips at every one of them, or never"},
		{"trip: {not: {any: [{state: half-open}]}}", "4:9: policies[0].trip: must look at outcomes: state alone trips at every one of them, or never"},
		{"trip: {state: open}", `4:17: policies[0].trip.state: must be one of closed, half-open, got "open"`},
		{"trip: {minCalls: 0}", "4:20: policies[0].trip.minCalls: must be between 1 and 1000000000, got 0"},
		{"trip: {failureRate: 0}", "4:23: policies[0].trip.failureRate: must be above 0 and at most 1, got 0"},
		{"trip: {failureRate: 50%}", `4:23: policies[0].trip.failureRate: must be a number, got "50%"`},
		{"trip: {failureRate: .nan}", "4:23: policies[0].trip.failureRate: must be a number, got .nan"},
		{"trip: {failureRate: 1.01}", "4:23: policies[0].trip.failureRate: must be above 0 and at most 1, got 1.01"},
		{"trip: {slowRate: 2}", "4:20: policies[0].trip.slowRate: must be above 0 and at most 1, got 2"},
		{"trip: {slowRate: {over: 1s}}", "4:20: policies[0].trip.slowRate.rate: is required"},
		{"trip: {slowRate: {rate: 0.5, over: 0s}}", "4:38: policies[0].trip.slowRate.over: must be between 1us and 24h, got 0s"},
		{"trip: {failureCount: 1.5}", "4:24: policies[0].trip.failureCount: must be a whole number, got 1.5"},
		{"trip: {consecutiveFailures: -1}", "4:31: policies[0].trip.consecutiveFailures: must be between 1 and 1000000000, got -1"},
		{"trip: {consecutiveFailures: {of: [503]}}", "4:31: policies[0].trip.consecutiveFailures.count: is required"},
		{"trip: {consecutiveFailures: {count: 3, of: []}}", "4:46: policies[0].trip.consecutiveFailures.of: must have at least one outcome"},
		{"trip: {avgLatency: 0s}", "4:22: policies[0].trip.avgLatency: must be between 1us and 24h, got 0s"},
		{"trip: {successRateOutlier: {minBackends: 0}}", "4:44: policies[0].trip.successRateOutlier.minBackends: must be between 1 and 1000000, got 0"},
		{"trip: {successRateOutlier: 1.9}", "4:30: policies[0].trip.successRateOutlier: must be a map, got 1.9"},
		{"trip: {pendingAge: 1us}", "4:22: policies[0].trip.pendingAge: must be between 1ms and 24h, got 1µs"},
		{"trip: {minClients: 1001}", "4:22: policies[0].trip.minClients: must be between 1 and 1000, got 1001"},

		{"open: {duration: 0s}", "4:20: policies[0].open.duration: must be between 1ms and 24h, got 0s"},
		{"open: {backoff: fibonacci}", `4:19: policies[0].open.backoff: must be one of none, linear, exponential, got "fibonacci"`},
		{"open: {multiplier: 0.5}", "4:22: policies[0].open.multiplier: must be between 1 and 1000, got 0.5"},
		{"open: {max: 25h}", "4:15: policies[0].open.max: must be between 1ms and 24h, got 25h"},
		{"open: {jitter: 1.5}", "4:18: policies[0].open.jitter: must be between 0 and 1, got 1.5"},

		{"halfOpen: {calls: -1}", "4:21: policies[0].halfOpen.calls: must be between 0 and 100000, got -1"},
		{"halfOpen: {calls: 99999999999999999999}", "4:21: policies[0].halfOpen.calls: must be a whole number, got 99999999999999999999"},
		{"halfOpen: {concurrent: 4}", "4:26: policies[0].halfOpen.concurrent: must be at most calls, which is 3, got 4"},
		{"halfOpen: {concurrent: 0}", "4:26: policies[0].halfOpen.concurrent: must be between 1 and calls, which is 3, got 0"},
		{"halfOpen: {tolerate: 3}", "4:24: policies[0].halfOpen.tolerate: must be below calls, which is 3, got 3"},
		{"halfOpen: {timeout: 0}", "4:23: policies[0].halfOpen.timeout: must be between 1ms and 24h, got 0s"},
		{"halfOpen: {ramp: {from: 0.5, to: 0.4}}", "4:27: policies[0].halfOpen.ramp.from: must be at most to, which is 0.4, got 0.5"},
		{"halfOpen: {ramp: {to: 0}}", "4:25: policies[0].halfOpen.ramp.to: must be above 0 and at most 1, got 0"},
		{"halfOpen: {ramp: {over: 0}}", "4:27: policies[0].halfOpen.ramp.over: must be between 1ms and 24h, got 0s"},
		{"halfOpen: {ramp: linear}", `4:20: policies[0].halfOpen.ramp: must be a map, got "linear"`},

		{"ejection: {maxPercent: 101}", "4:26: policies[0].ejection.maxPercent: must be between 0 and 100, got 101"},
		{"ejection: {minHealthy: -1}", "4:26: policies[0].ejection.minHealthy: must be between 0 and 1000000, got -1"},

		{"reject: {with: tarpit}", `4:18: policies[0].reject.with: must be one of respond, reset, drop, got "tarpit"`},
		{"protocol: tcp\nreject: {with: respond}", "5:18: policies[0].reject.with: must be reset or drop for protocol tcp, got respond"},
		{"reject: {existing: maybe}", `4:22: policies[0].reject.existing: must be true or false, got "maybe"`},
		{"reject: {status: 600}", "4:20: policies[0].reject.status: must be between 200 and 599, got 600"},
		{"reject: {status: 204}", "4:20: policies[0].reject.status: must be a status that may have a body, got 204"},
		{"reject: {contentType: json}", `4:25: policies[0].reject.contentType: must be a media type such as text/plain, got "json"`},
		{"reject: {body: {error: open}}", "4:18: policies[0].reject.body: must be a string, got a map"},
		{"reject: {body: " + strings.Repeat("x", 1001) + "}", "4:18: policies[0].reject.body: must be at most 1000 bytes, got 1001"},
		{"reject: {grpcStatus: 17}", "4:24: policies[0].reject.grpcStatus: must be between 0 and 16, got 17"},
		{"reject: {grpcStatus: -1}", "4:24: policies[0].reject.grpcStatus: must be between 0 and 16, got -1"},
		{"reject: {grpcStatus: unavailable}", `4:24: policies[0].reject.grpcStatus: must be a whole number, got "unavailable"`},
		{"reject: {message: 5}", "4:21: policies[0].reject.message: must be a string, got 5; put it in quotes"},
		{"reject: {message: " + strings.Repeat("é", 200) + "}",
			"4:21: policies[0].reject.message: the answer to a gRPC call with all its headers must be at most 1200 bytes, got 1296"},
		{"reject: {headers: {Grpc-Status: '0'}}", "4:35: policies[0].reject.headers.Grpc-Status: is set by grpcStatus"},
		{"reject: {headers: {grpc-message: x}}", "4:36: policies[0].reject.headers.grpc-message: is set by message"},
		{"reject: {retryAfter: 30}", "4:24: policies[0].reject.retryAfter: must be true or false, got 30"},
		{"reject: {headers: {connection: keep-alive}}", "4:34: policies[0].reject.headers.connection: connection is a header that cbagent sets itself, or that would change where the answer ends"},
		{"reject: {headers: {X-A: '1', x-a: '2'}}", "4:37: policies[0].reject.headers.x-a: is the same header as X-A"},
		{"reject: {headers: {X: 1}}", "4:25: policies[0].reject.headers.X: must be a string, got 1; put it in quotes"},
		{`reject: {headers: {X: "a\r\nb"}}`, "4:25: policies[0].reject.headers.X: must be printable ASCII without line breaks, got byte 0x0d at offset 1"},
		{"reject: {headers: {X: " + strings.Repeat("y", 1100) + "}}", "4:21: policies[0].reject.headers: the answer with all its headers must be at most 1200 bytes, got 1316"},
		{"reject: {headers: [a]}", "4:21: policies[0].reject.headers: must be a map, got a list"},

		{"limits: {maxConnections: -1}", "4:28: policies[0].limits.maxConnections: must be between 0 and 1000000000, got -1"},
		{"limits: {maxRequests: many}", `4:25: policies[0].limits.maxRequests: must be a whole number, got "many"`},
		{"limits: {maxRequestsPerConnection: 2000000000}", "4:38: policies[0].limits.maxRequestsPerConnection: must be between 0 and 1000000000, got 2000000000"},
		{"rateLimit: {}", "4:14: policies[0].rateLimit.limit: is required"},
		{"rateLimit: {limit: 0}", "4:22: policies[0].rateLimit.limit: must be between 1 and 1000000000, got 0"},
		{"rateLimit: {limit: 2000000, period: 1ms}", "4:22: policies[0].rateLimit.limit: must be at most one in a nanosecond, got 2000000 in 1ms"},
		{"rateLimit: {limit: 1, period: 0s}", "4:33: policies[0].rateLimit.period: must be between 1ms and 24h, got 0s"},
		{"rateLimit: {limit: 1, burst: 0}", "4:32: policies[0].rateLimit.burst: must be between 1 and 1000000000, got 0"},
		{"rateLimit: {limit: 1, status: 304}", "4:33: policies[0].rateLimit.status: must be a status that may have a body, got 304"},
	} {
		_, err := parseOne(test.text)
		if err == nil {
			t.Errorf("%s: accepted, want %s", test.text, test.want)
		} else if got := err.Error(); got != "p.yaml:"+test.want {
			t.Errorf("%.80s:\ngot  %s\nwant p.yaml:%s", test.text, got, test.want)
		}
	}
}

// Each text is a whole file.
func TestRejectedFiles(t *testing.T) {
	const hint = "such as 192.0.2.7:8080 or [2001:db8::7]:8080"
	one := func(match string) string { return "policies: [{name: a, match: {" + match + "}}]" }
	for _, test := range []struct{ text, want string }{
		{"", "p.yaml: is empty; a file without policies says policies: []"},
		{"# nothing\n", "p.yaml: is empty; a file without policies says policies: []"},
		{"version: 1\n", "p.yaml:1:1: policies: is required; [] means none"},
		{"version: 2\npolicies: []", "p.yaml:1:10: version: must be 1, got 2"},
		{"policies: {}", "p.yaml:1:11: policies: must be a list, got a map"},
		{"policies:\n", "p.yaml:1:10: policies: must be a list, got nothing"},
		{"[]", "p.yaml:1:1: must be a map, got a list"},
		{"policies: []\npolicy: []", "p.yaml:2:1: policy: unknown key; did you mean policies?"},
		{"policies: []\nextra: []", "p.yaml:2:1: extra: unknown key; there are version, defaults, policies"},
		{"policies: []\n---\npolicies: []\n", "p.yaml:2:1: must be one YAML document; put each further one into a file of its own"},
		{"policies: []\n  x: 1\n", "p.yaml:2:3: not YAML: did not find expected key"},
		{"policies: [\x01]\n", "p.yaml: not YAML: control characters are not allowed (value: 1)"},
		{"policies: [orders]", `p.yaml:1:12: policies[0]: must be a map, got "orders"`},
		{"policies: [{match: {hosts: ['a:80']}}]", "p.yaml:1:12: policies[0].name: is required"},
		{"policies: [{name: Orders, match: {hosts: ['a:80']}}]", `p.yaml:1:19: policies[0].name: must be a DNS label (1 to 63 of a-z, 0-9 and -, not at the ends), got "Orders"`},
		{"policies: [{name: 7, match: {hosts: ['a:80']}}]", "p.yaml:1:19: policies[0].name: must be a string, got 7; put it in quotes"},
		{"policies: [{name: a}]", "p.yaml:1:12: policies[0].match: must have at least one of addresses, cidrs, hosts and services"},
		{"defaults: {name: a}\npolicies: []", "p.yaml:1:12: defaults.name: unknown key; there are mode, scope, direction, protocol, exempt, outcome, window, " +
			"trip, open, halfOpen, ejection, reject, limits, rateLimit"},

		{one("addresses: [192.0.2.1]"), "p.yaml:1:42: policies[0].match.addresses[0]: must be ADDRESS:PORT " + hint + `, got "192.0.2.1"`},
		{one("addresses: ['192.0.2.1:0']"), `p.yaml:1:42: policies[0].match.addresses[0]: must have a port between 1 and 65535, got "192.0.2.1:0"`},
		{one("addresses: ['192.0.2.1:65536']"), "p.yaml:1:42: policies[0].match.addresses[0]: must be ADDRESS:PORT " + hint + `, got "192.0.2.1:65536"`},
		{one("addresses: ['2001:db8::1:80']"), "p.yaml:1:42: policies[0].match.addresses[0]: must be ADDRESS:PORT " + hint + `, got "2001:db8::1:80"`},
		{one("addresses: ['[fe80::1%eth0]:80']"), `p.yaml:1:42: policies[0].match.addresses[0]: must have no zone, got "[fe80::1%eth0]:80"`},
		{one("addresses: ['0.0.0.0:80']"), `p.yaml:1:42: policies[0].match.addresses[0]: must be the address of one machine, got "0.0.0.0:80"`},
		{one("addresses: ['orders.example:80']"), "p.yaml:1:42: policies[0].match.addresses[0]: must be ADDRESS:PORT " + hint + `, got "orders.example:80" (a name goes into hosts)`},
		{one("addresses: ['192.0.2.0/24:80']"), "p.yaml:1:42: policies[0].match.addresses[0]: must be ADDRESS:PORT " + hint + `, got "192.0.2.0/24:80" (a prefix goes into cidrs)`},
		{one("addresses: ['shop/orders:80']"), "p.yaml:1:42: policies[0].match.addresses[0]: must be ADDRESS:PORT " + hint + `, got "shop/orders:80" (a Service? then it goes into services)`},
		{one("addresses: '192.0.2.1:80'"), `p.yaml:1:41: policies[0].match.addresses: must be a list, got "192.0.2.1:80"`},
		{one("cidrs: ['192.0.2.0:80']"), `p.yaml:1:38: policies[0].match.cidrs[0]: must be PREFIX:PORT such as 192.0.2.0/24:8080 or 2001:db8::/64:8080, got "192.0.2.0:80"`},
		{one("cidrs: ['192.0.2.0/33:80']"), `p.yaml:1:38: policies[0].match.cidrs[0]: must be PREFIX:PORT such as 192.0.2.0/24:8080 or 2001:db8::/64:8080, got "192.0.2.0/33:80"`},
		{one("cidrs: ['192.0.2.0/24:http']"), `p.yaml:1:38: policies[0].match.cidrs[0]: must have a port between 1 and 65535, got "192.0.2.0/24:http"`},
		{one("cidrs: ['192.0.2.7/24:80']"), `p.yaml:1:38: policies[0].match.cidrs[0]: must have no bits after the prefix, got "192.0.2.7/24:80"; it would be 192.0.2.0/24:80`},
		{one("hosts: [orders]"), `p.yaml:1:38: policies[0].match.hosts[0]: must be NAME:PORT such as orders.example.com:8080, got "orders"`},
		{one("hosts: ['orders:http']"), `p.yaml:1:38: policies[0].match.hosts[0]: must have a port between 1 and 65535, got "orders:http"`},
		{one("hosts: ['192.0.2.1:80']"), `p.yaml:1:38: policies[0].match.hosts[0]: must be NAME:PORT, got "192.0.2.1:80" (an address goes into addresses)`},
		{one("hosts: ['shop/orders:80']"), `p.yaml:1:38: policies[0].match.hosts[0]: must be NAME:PORT, got "shop/orders:80" (a Service goes into services)`},
		{one("hosts: ['-a:80']"), `p.yaml:1:38: policies[0].match.hosts[0]: must be NAME:PORT such as orders.example.com:8080, got "-a:80"`},
		{one("services: ['orders:http']"), `p.yaml:1:41: policies[0].match.services[0]: must be NAMESPACE/NAME:PORT such as shop/orders:http, got "orders:http"`},
		{one("services: ['shop/orders']"), `p.yaml:1:41: policies[0].match.services[0]: must be NAMESPACE/NAME:PORT such as shop/orders:http, got "shop/orders"`},
		{one("services: ['shop/orders:0']"), `p.yaml:1:41: policies[0].match.services[0]: must have a port name, or a number between 1 and 65535, got "shop/orders:0"`},
		{one("services: ['shop/orders:HTTP']"), `p.yaml:1:41: policies[0].match.services[0]: must have a port name, or a number between 1 and 65535, got "shop/orders:HTTP"`},
	} {
		_, err := Parse("p.yaml", []byte(test.text))
		if err == nil {
			t.Errorf("%s: accepted, want %s", test.text, test.want)
		} else if got := err.Error(); got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.text, got, test.want)
		}
	}
}

func TestEveryErrorAtOnce(t *testing.T) {
	_, err := Load("testdata/wrong/many.yaml")
	want := mustRead(t, "testdata/wrong/many.txt")
	if err == nil || err.Error()+"\n" != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	if list, ok := errors.AsType[Errors](err); !ok || list[0].File != "testdata/wrong/many.yaml" || list[0].Line == 0 || list[0].Column == 0 {
		t.Errorf("the first error is %+v", list)
	}
}
