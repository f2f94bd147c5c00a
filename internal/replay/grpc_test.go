package replay

import (
	"fmt"
	"strings"
	"testing"
)

// A gRPC code and the resets of streams are judged by the policy's lists.
func TestOutcomesOfGRPCAndHTTP2(t *testing.T) {
	opens := map[string]bool{}
	for _, key := range []string{
		`"grpc":2`, `"grpc":4`, `"grpc":13`, `"grpc":14`, `"grpc":15`, `"outcome":"h2-refused"`, `"outcome":"h2-reset"`, `"outcome":"grpc-unavailable"`,
	} {
		opens[key] = true
	}
	keys := []string{`"outcome":"h2-refused"`, `"outcome":"h2-reset"`, `"outcome":"grpc-unavailable"`, `"outcome":"grpc-ok"`, `"status":200`}
	for code := range 17 {
		keys = append(keys, fmt.Sprintf(`"grpc":%d`, code))
	}
	for _, key := range keys {
		var want []string
		if opens[key] {
			want = []string{"1 a closed>open consecutiveFailures"}
		}
		check(t, "", strings.Repeat(`{"t":1,"backend":"192.0.2.1:80",`+key+`}`+"\n", 5), want...)
	}
	const notFound = `{"t":1,"backend":"192.0.2.1:80","grpc":5,"latency_ms":4,"count":5}` + "\n"
	const unavailable = `{"t":1,"backend":"192.0.2.1:80","grpc":14,"count":5}` + "\n"
	const policy = "  protocol: grpc\n  outcome: {failure: [grpc-not-found], ignore: [grpc-ok]}\n"
	check(t, policy, unavailable)
	check(t, policy, notFound, "1 a closed>open consecutiveFailures")
	const ignored = `{"t":1,"backend":"192.0.2.1:80","grpc":0,"count":3}` + "\n" + `{"t":1,"backend":"192.0.2.1:80","inspect":true}` + "\n"
	if got := metrics(check(t, policy, ignored+strings.Replace(ignored, `"grpc":0`, `"grpc":16`, 1)), func(o output) string { return fmt.Sprint(o.Total) }); got != "0 3" {
		t.Errorf("outcomes: %s, expected 0 3", got)
	}
}
