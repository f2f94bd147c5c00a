package policy

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// Random policies of right and wrong values in the right places: the fuzzer rarely gets past the syntax.
func TestRandomPolicies(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := random{rand.New(rand.NewPCG(seed, 0))}
	accepted := 0
	for range 1000 {
		file := map[string]any{"policies": []any{r.policy("a"), r.policy("b")}}
		if r.IntN(2) == 0 {
			file["defaults"] = r.structure(reflect.TypeFor[Keys](), 0.1)
		}
		data, err := json.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		checkInvariants(t, data)
		if _, err := Parse("p.yaml", data); err == nil {
			accepted++
		}
		if t.Failed() {
			t.Fatalf("in %s", data)
		}
	}
	t.Logf("%d accepted", accepted)
	if accepted < 50 || accepted > 950 {
		t.Errorf("%d of 1000 were accepted: the values say little", accepted)
	}
}

type random struct{ *rand.Rand }

func (r random) policy(name string) any {
	p := r.structure(reflect.TypeFor[Keys](), 0.1)
	p["name"] = name
	p["match"] = map[string]any{"hosts": []any{name + ".example:80"}}
	return p
}

// structure gives each field of t with the given probability.
func (r random) structure(t reflect.Type, probability float64) map[string]any {
	m := map[string]any{}
	for _, f := range fieldsOf(t) {
		if r.Float64() < probability {
			field := t.FieldByIndex(f.index)
			m[f.key] = r.value(field.Type, f, probability)
		}
	}
	return m
}

func pick[T any](r random, values ...T) T { return values[r.IntN(len(values))] }

func (r random) value(t reflect.Type, f field, probability float64) any {
	switch t {
	case reflect.TypeFor[Duration]():
		return pick[any](r, 0, "1ms", "100ms", "500ms", "1s", "1s", "3s", "10s", "30s", "1m", "2m", "1h", "25h")
	case reflect.TypeFor[Size]():
		return pick[any](r, "1s", "5s", "10s", "10s", "1m", "1h", 1, 7, 100, 100_000, 100_001)
	case reflect.TypeFor[Outcomes]():
		var list []any
		for range r.IntN(4) {
			list = append(list, pick[any](r, 503, "5xx", "1xx", "500-504", "599-600", "100-999", "reset", "timeout", "aborted", "connect-refused",
				"connect-timeout", "unreachable", "abandoned", "raced", "h2-refused", "h2-reset", "grpc-ok", "grpc-unavailable", "grpc-aborted"))
		}
		return list
	case reflect.TypeFor[Trip]():
		return r.trip(0)
	}
	switch t.Kind() {
	case reflect.Pointer:
		if r.IntN(5) == 0 {
			return nil
		}
		return r.value(t.Elem(), f, probability)
	case reflect.Struct:
		return r.structure(t, 0.4)
	case reflect.Bool:
		return r.IntN(2) == 0
	case reflect.Int:
		return pick(r, 0, 1, 2, 3, 5, 200, 204, 404, 503, 599, 1_000_000)
	case reflect.Float64:
		return pick(r, 0, 0.1, 0.5, 1, 1, 1.5, 2, 33.3, 100, 1e300)
	case reflect.Map:
		return pick[any](r, map[string]any{}, map[string]any{"X-A": "b", "X-B": "c"}, map[string]any{"X-A": nil})
	case reflect.Slice:
		return pick[any](r, []any{}, []any{"192.0.2.0/24", "2001:db8::1"})
	}
	if enum := f.tag.Get("enum"); enum != "" {
		return pick(r, strings.Split(enum, ",")...)
	}
	return pick(r, "", "text/plain", "hello\nworld", strings.Repeat("x", 1000), "\u2028 é \"'{}")
}

func (r random) trip(depth int) any {
	children := func() []any {
		list := make([]any, 1+r.IntN(3))
		for i := range list {
			list[i] = r.trip(depth + 1)
		}
		return list
	}
	rate := pick(r, 0.01, 0.5, 1)
	if depth < 4 {
		switch r.IntN(6) {
		case 0:
			return map[string]any{"any": children()}
		case 1:
			return map[string]any{"all": children()}
		case 2:
			return map[string]any{"not": r.trip(depth + 1)}
		case 3:
			return children()
		}
	}
	switch r.IntN(12) {
	case 0:
		return map[string]any{"minCalls": r.IntN(100) + 1}
	case 1:
		return map[string]any{"failureRate": rate}
	case 2:
		return map[string]any{"slowRate": rate}
	case 3:
		return map[string]any{"slowRate": map[string]any{"rate": rate, "over": pick(r, "1us", "1s", "2s", "3s", "4s", "24h")}}
	case 4:
		return map[string]any{"failureCount": r.IntN(100) + 1}
	case 5:
		return map[string]any{"consecutiveFailures": r.IntN(10) + 1}
	case 6:
		of := []any{pick[any](r, 500, 501, "502-504", "5xx", "reset", "timeout", "aborted", "4xx", "connect-timeout", "unreachable", "h2-reset", "grpc-unknown")}
		return map[string]any{"consecutiveFailures": map[string]any{"count": 3, "of": of}}
	case 7:
		return map[string]any{"avgLatency": "1s"}
	case 8:
		return map[string]any{"successRateOutlier": r.structure(reflect.TypeFor[OutlierSpec](), 0.2)}
	case 9:
		return map[string]any{"pendingAge": "1s"}
	case 10:
		return map[string]any{"minClients": r.IntN(16) + 1}
	}
	return map[string]any{"state": pick(r, "closed", "half-open")}
}
