package policy

import "testing"

func TestWarningsOfGRPC(t *testing.T) {
	const noCode = "p.yaml:5:22: policies[0].outcome.failure: makes no gRPC code a failure: calls that fail have the status 200 and count as " +
		"successes; name codes such as grpc-unavailable"
	const backoff = "reset sends gRPC clients into a back-off of up to 2 minutes, which outlives the open circuit; after respond they call " +
		"again at once"
	for _, test := range []struct {
		text string
		want string // "" = none
	}{
		{"protocol: grpc", ""},
		{"protocol: grpc\noutcome: {failure: [reset, timeout]}", noCode},
		{"protocol: http\noutcome: {failure: [reset, timeout]}", ""},
		{"protocol: grpc\noutcome: {failure: [reset, timeout, grpc-aborted]}", ""},
		{"protocol: grpc\noutcome: {failure: [5xx, timeout]}", ""},
		{"protocol: grpc\noutcome: {failure: [503, timeout], ignore: [503]}", noCode},
		{"protocol: grpc\nreject: {with: reset}", "p.yaml:5:18: policies[0].reject.with: " + backoff},
		{"protocol: http\nreject: {with: reset}", ""},
		{"protocol: grpc\nreject: {with: respond}", ""},
		{"protocol: grpc\nreject: {grpcStatus: 0}",
			"p.yaml:5:24: policies[0].reject.grpcStatus: 0 is OK: a call that returns one message fails at the client, since the answer has none"},
		{"protocol: grpc\nreject: {grpcStatus: 1}", ""},
	} {
		set, err := parseOne(test.text)
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
		} else if got := set.Warnings.Error(); got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.text, got, test.want)
		}
	}
}
