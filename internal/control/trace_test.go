package control

import (
	"net/netip"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/breaker"
)

func TestTraceWriter(t *testing.T) {
	at := netip.MustParseAddrPort("192.0.2.7:8080")
	client := netip.MustParseAddr("192.0.2.99")
	const s = int64(time.Second)
	for _, c := range []struct {
		name  string
		lines []TraceLine
		want  string
	}{
		{"an outcome", []TraceLine{{Backend: at, Client: client, Result: 503, At: 2*s + 500_000_001, Began: 2 * s, Sent: 2 * s}},
			`{"t":2.500000001,"backend":"192.0.2.7:8080","status":503,"latency_ms":500.000001,"client":"192.0.2.99","began":2}` + "\n"},
		{"without a status", []TraceLine{{Backend: netip.MustParseAddrPort("[2001:db8::7]:80"), Result: breaker.ResultConnectRefused, At: s, Began: s, Sent: s}},
			`{"t":1,"backend":"[2001:db8::7]:80","outcome":"connect-refused","latency_ms":0,"began":1}` + "\n"},
		{"a gRPC call", []TraceLine{{Backend: at, Result: breaker.ResultGRPC(14), At: 2 * s, Began: s, Sent: s}},
			`{"t":2,"backend":"192.0.2.7:8080","grpc":14,"latency_ms":1000,"began":1}` + "\n"},
		{"a gRPC call without an error", []TraceLine{{Backend: at, Result: breaker.ResultGRPC(0), At: s, Began: s, Sent: s}},
			`{"t":1,"backend":"192.0.2.7:8080","grpc":0,"latency_ms":0,"began":1}` + "\n"},
		{"a stream that was reset", []TraceLine{{Backend: at, Result: breaker.ResultH2Reset, At: s, Began: s, Sent: s}},
			`{"t":1,"backend":"192.0.2.7:8080","outcome":"h2-reset","latency_ms":0,"began":1}` + "\n"},
		{"time never goes back", []TraceLine{{Backend: at, Result: 200, At: 3 * s, Began: s, Sent: s}, {Backend: at, Result: 200, At: 2 * s, Began: s, Sent: s}},
			`{"t":3,"backend":"192.0.2.7:8080","status":200,"latency_ms":2000,"began":1}` + "\n" +
				`{"t":3,"backend":"192.0.2.7:8080","status":200,"latency_ms":1000,"began":1}` + "\n"},
		{"a permit that a connection reserved", []TraceLine{
			{Kind: TraceAttempt, Backend: at, At: 4 * s, Began: 4 * s, Sent: 4 * s, Generation: 3},
			{Backend: at, Result: 200, Permit: true, At: 6 * s, Began: 5 * s, Sent: 5 * s, Generation: 3},
			{Backend: at, Result: 200, Permit: true, At: 7 * s, Began: 6 * s, Sent: 6 * s, Generation: 3},
		}, `{"t":4,"backend":"192.0.2.7:8080","attempt":true}` + "\n" +
			`{"t":6,"backend":"192.0.2.7:8080","status":200,"latency_ms":1000,"began":4}` + "\n" +
			`{"t":7,"backend":"192.0.2.7:8080","status":200,"latency_ms":1000,"began":6}` + "\n"},
		{"an attempt that is reported late", []TraceLine{
			{Backend: at, Result: 200, At: 5 * s, Began: 5 * s, Sent: 5 * s},
			{Kind: TraceAttempt, Backend: at, At: 4 * s, Began: 4 * s, Sent: 4 * s, Generation: 3},
			{Kind: TraceReturn, Backend: at, At: 6 * s, Began: 4 * s, Sent: 4 * s, Generation: 3},
		}, `{"t":5,"backend":"192.0.2.7:8080","status":200,"latency_ms":0,"began":5}` + "\n" +
			`{"t":5,"backend":"192.0.2.7:8080","attempt":true}` + "\n" +
			`{"t":6,"backend":"192.0.2.7:8080","outcome":"unknown","began":5}` + "\n"},
		{"a probe of an earlier period", []TraceLine{
			{Kind: TraceAttempt, Backend: at, At: s, Began: s, Sent: s, Generation: 3},
			{Kind: TraceAttempt, Backend: at, At: 5 * s, Began: 5 * s, Sent: 5 * s, Generation: 5},
			{Backend: at, Result: 200, Permit: true, At: 6 * s, Began: 2 * s, Sent: 2 * s, Generation: 3},
			{Backend: at, Result: 200, Permit: true, At: 6 * s, Began: 5 * s, Sent: 5 * s, Generation: 5},
		}, `{"t":1,"backend":"192.0.2.7:8080","attempt":true}` + "\n" +
			`{"t":5,"backend":"192.0.2.7:8080","attempt":true}` + "\n" +
			`{"t":6,"backend":"192.0.2.7:8080","status":200,"latency_ms":4000,"began":2}` + "\n" +
			`{"t":6,"backend":"192.0.2.7:8080","status":200,"latency_ms":1000,"began":5}` + "\n"},
	} {
		var w TraceWriter
		var got []byte
		for i := range c.lines {
			got = append(got, w.Append(nil, &c.lines[i])...)
		}
		if string(got) != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
	w := TraceWriter{last: 5}
	if got := string(w.Tick(nil, 3)); got != `{"t":0.000000005,"tick":true}`+"\n" {
		t.Errorf("tick: %s", got)
	}
}
