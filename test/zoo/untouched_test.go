//go:build zoo

package zoo

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"
)

// result is what a call must give.
type result struct {
	status, code, count, size int
	orCode                    int    // another code that is as good; 0: none
	failed                    bool   // an error in place of a status
	counted                   string // by the server
}

// resultOf says how a call with an order ends that reaches its server.
func resultOf(do string, grpc bool) result {
	n := map[string]int{}
	for part := range strings.SplitSeq(do, ",") {
		key, value, _ := strings.Cut(part, "=")
		n[key], _ = strconv.Atoi(value) // orders of this package
	}
	_, stream := n["count"]
	_, reset := n["reset"]
	switch {
	case grpc && n["deadline"] > 0:
		// grpc-go's server resets the call at the deadline; if that comes first, grpc-js calls it cancelled.
		return result{code: 4, orCode: 1, counted: "gone"}
	case grpc && n["stall"] > 0:
		return result{code: 1, count: n["count"], size: n["count"] * n["size"], counted: "gone"}
	case grpc && n["cancel"] > 0:
		return result{code: 1, counted: "gone"}
	case grpc && stream:
		return result{code: n["code"], count: n["count"], size: n["count"] * n["size"], counted: fmt.Sprintf("grpc-%d", n["code"])}
	case grpc && n["code"] != 0:
		return result{code: n["code"], counted: fmt.Sprintf("grpc-%d", n["code"])}
	case grpc:
		return result{size: n["size"], counted: "grpc-0"}
	case n["cancel"] > 0:
		return result{code: -1, failed: true, counted: "gone"}
	case reset:
		return result{code: -1, failed: true, counted: fmt.Sprintf("reset-%d", n["reset"])}
	case n["status"] == 0:
		n["status"] = 200
	}
	return result{code: -1, status: n["status"], size: n["size"], counted: strconv.Itoa(n["status"])}
}

// succeeded reports whether a call got what it must give.
func (c client) succeeded(got call) bool {
	want := resultOf(got.Do, c.grpc)
	size := want.size == got.Size || !c.bodies || want.failed
	code := got.Code == want.code || want.orCode != 0 && got.Code == want.orCode
	return got.Status == want.status && code && got.Count == want.count && size && (got.Error != "") == want.failed && got.Reason == ""
}

// allServers makes a stage with one server of each kind.
func allServers(t *testing.T) *stage {
	t.Helper()
	s := newStage(t)
	for _, kind := range servers() {
		s.serve(kind)
	}
	return s
}

// meet has every client call every server that suits it, and compares what clients and servers saw.
func (s *stage) meet(t *testing.T, rounds int) {
	for _, server := range s.servers {
		want := map[string]int{}
		t.Run("server="+server.name, func(t *testing.T) {
			for _, c := range clients() {
				if !c.suits(server.server) {
					continue
				}
				orders := c.orders(server.server)
				for _, atOnce := range []int{1, 4} {
					calls := rounds * len(orders)
					for _, do := range orders {
						want[resultOf(do, c.grpc).counted] += rounds
					}
					t.Run(fmt.Sprintf("client=%s/%d", c.name, atOnce), func(t *testing.T) {
						t.Parallel()
						got := s.call(t, c, server.target, fmt.Sprintf("calls=%d", calls), fmt.Sprintf("at-once=%d", atOnce),
							"do="+strings.Join(orders, "+")).all()
						if len(got) != calls {
							t.Errorf("%d calls, want %d", len(got), calls)
						}
						for _, one := range got {
							if !c.succeeded(one) {
								t.Errorf("%s: want %+v", one, resultOf(one.Do, c.grpc))
							}
						}
					})
				}
			}
		})
		if got := server.counts(); !maps.Equal(got, want) {
			t.Errorf("%s counted %v, its clients %v", server.name, got, want)
		}
	}
}

// The zoo itself: clients and servers understand one another.
func TestWithoutAgent(t *testing.T) {
	t.Parallel()
	allServers(t).meet(t, 2)
}

// With a closed circuit all calls are as without an agent.
func TestUntouched(t *testing.T) {
	t.Parallel()
	s := allServers(t)
	s.startAgent()
	s.meet(t, 4)
	for _, server := range s.servers {
		c := s.circuit(server)
		if c.Admitted == 0 || len(c.OtherProtocols) > 0 || c.AllRejected() != 0 {
			t.Errorf("%s: %d calls, connections of other protocols: %v, %v rejected; want some calls only", server.name, c.Admitted, c.OtherProtocols, c.Rejected)
		}
	}
}
