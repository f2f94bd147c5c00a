package loader

import (
	"strings"
	"testing"

	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// A person can read which packets a connection that stays still waits for.
func TestDescribeFlows(t *testing.T) {
	r := newRig(t)
	f := families[0]
	r.put(f.backend, tables.PolicySettings{}, ledger.Verdict{})
	describe := func(want ...string) {
		t.Helper()
		all, err := r.d.DescribeFlows(1)
		if err != nil || len(all) != 1 {
			t.Fatalf("got %q, %v", all, err)
		}
		for _, part := range append(want, f.client.String()+" -> "+f.backend.String()+": target 1, ") {
			if !strings.Contains(all[0], part) {
				t.Errorf("got %q, want %q in it", all[0], part)
			}
		}
	}
	c := r.dial(f.client, f.backend)
	c.send(syn, "")
	describe("phase syn after 0 changes, flags []", "client: end 1, max 1,", "0 requests")
	r.settle()
	c = r.dial(f.client, f.backend)
	c.open().ask(get)
	describe("phase open", "flags [answering]", "1 requests, the last: state 1 after 1 changes, start 1,")
	if all, err := r.d.DescribeFlows(0); err != nil || len(all) != 0 {
		t.Errorf("got %q, %v; want none", all, err)
	}
}
