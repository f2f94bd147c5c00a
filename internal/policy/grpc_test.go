package policy

import "testing"

func TestWarningsOfGRPC(t *testing.T) {
	const noCode = "p.yaml:5:22: policies[0].outcome.failure: makes no gRPC code a failure: calls that fail have the status 200 and count as " +
		"successes; name codes such as grpc-unavailable"
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
	} {
		set, err := parseOne(test.text)
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
		} else if got := set.Warnings.Error(); got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.text, got, test.want)
		}
	}
}
