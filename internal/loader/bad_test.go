package loader

import (
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/asm"

	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// load0 are the instructions of a program that lets everything go on.
var load0 = asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}

func TestBadTables(t *testing.T) {
	r := newRig(t)
	answer := tables.Answer{Bytes: []byte("HTTP/1.1 503 x\r\n\r\n"), HeadLen: 18, RetryAt: -1}
	with := func(change func(*tables.Answer)) tables.Answer {
		a := answer
		change(&a)
		return a
	}
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"policy beyond the table":          {r.d.PutPolicy(64, tables.PolicySettings{}), "64 places"},
		"policy below the table":           {r.d.PutPolicy(-1, tables.PolicySettings{}), "64 places"},
		"answer beyond the table":          {r.d.PutAnswer(64, answer), "64 places"},
		"circuit beyond the table":         {r.d.ResetCircuit(64, 0), "64 places"},
		"circuit below the table":          {r.d.ResetCircuit(-1, 0), "64 places"},
		"answer too long":                  {r.d.PutAnswer(1, with(func(a *tables.Answer) { a.Bytes = make([]byte, 1201) })), "1200"},
		"answer without headers":           {r.d.PutAnswer(1, with(func(a *tables.Answer) { a.HeadLen = 0 })), "headers"},
		"headers longer than the answer":   {r.d.PutAnswer(1, with(func(a *tables.Answer) { a.HeadLen = 19 })), "headers"},
		"Retry-After at an odd place":      {r.d.PutAnswer(1, with(func(a *tables.Answer) { a.RetryAt = 3 })), "even"},
		"Retry-After beyond the headers":   {r.d.PutAnswer(1, with(func(a *tables.Answer) { a.RetryAt = 12 })), "within"},
		"a frame without a header":         {r.d.PutAnswer(1, with(func(a *tables.Answer) { a.Frames, a.Bytes, a.HeadLen = 1, a.Bytes[:8], 8 })), "1 frames"},
		"one frame and a body":             {r.d.PutAnswer(1, with(func(a *tables.Answer) { a.Frames, a.HeadLen = 1, 9 })), "1 frames"},
		"two frames in one":                {r.d.PutAnswer(1, with(func(a *tables.Answer) { a.Frames, a.HeadLen = 2, 10 })), "2 frames"},
		"three frames":                     {r.d.PutAnswer(1, with(func(a *tables.Answer) { a.Frames, a.HeadLen = 3, 9 })), "3 frames"},
		"one frame":                        {r.d.PutAnswer(1, with(func(a *tables.Answer) { a.Frames = 1 })), ""},
		"two frames":                       {r.d.PutAnswer(1, with(func(a *tables.Answer) { a.Frames, a.HeadLen = 2, 9 })), ""},
		"answer that is right":             {r.d.PutAnswer(1, answer), ""},
		"removing what is not there":       {r.d.RemoveBackend(tables.Backend{Addr: backendV6}), ""},
		"Retry-After at an even place":     {r.d.PutAnswer(1, with(func(a *tables.Answer) { a.RetryAt = 8 })), ""},
		"forgetting statuses of a circuit": {r.d.ForgetStatuses(map[int]bool{5: true}), ""},
	} {
		switch {
		case tc.want == "" && tc.err != nil:
			t.Errorf("%s: %v", name, tc.err)
		case tc.want != "" && (tc.err == nil || !strings.Contains(tc.err.Error(), tc.want)):
			t.Errorf("%s: %v, expected %q in it", name, tc.err, tc.want)
		}
	}
}

func TestStatuses(t *testing.T) {
	r := newRig(t)
	r.put(backendV4, tables.PolicySettings{}, ledger.Verdict{Kind: ledger.Closed})
	if err := r.d.ForgetStatuses(map[int]bool{1: true}); err != nil {
		t.Fatal(err)
	}
	c := r.dial(clientV4, backendV4).open()
	for status, n := range map[string]int{"200": 3, "404": 1, "503": 2} {
		for range n {
			c.ask(get)
			c.answer("HTTP/1.1 " + status + " x\r\n\r\n")
		}
	}
	got := map[int]uint64{}
	all, err := r.d.Statuses()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.Circuit == 1 {
			got[s.Status] = s.Count
		}
	}
	if len(got) != 3 || got[200] != 3 || got[404] != 1 || got[503] != 2 {
		t.Errorf("statuses %v", got)
	}
	if err := r.d.ForgetStatuses(map[int]bool{1: true}); err != nil {
		t.Fatal(err)
	}
	if all, err = r.d.Statuses(); err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.Circuit == 1 {
			t.Errorf("still there: %+v", s)
		}
	}
}

func TestLatencyBuckets(t *testing.T) {
	if tables.LatencyBound(0) != 65536*time.Nanosecond || tables.LatencyBound(1) != 131072*time.Nanosecond {
		t.Errorf("the first buckets end at %s and %s", tables.LatencyBound(0), tables.LatencyBound(1))
	}
	r := newRig(t)
	r.put(backendV4, tables.PolicySettings{}, ledger.Verdict{Kind: ledger.Closed})
	c := r.dial(clientV4, backendV4).open()
	for bucket := range tables.LatencyBuckets {
		c.ask(get)
		// As if it had been sent so long ago that its latency lies in the middle of the bucket.
		age := tables.LatencyBound(bucket) * 3 / 4
		f, _ := r.flow(c.client, c.backend)
		f.Request.Sent = uint64(tables.Now()) - uint64(age)
		if bucket == 0 {
			f.Request.Sent = uint64(tables.Now()) + uint64(time.Hour) // clocks that disagree: no latency
		}
		if err := r.d.objs.Flows.Put(flowKey(c.client, c.backend), f); err != nil {
			t.Fatal(err)
		}
		before := r.d.Totals(1)
		least := tables.Now() - int64(f.Request.Sent)
		c.answer(ok)
		most := tables.Now() - int64(f.Request.Sent)
		if bucket == 0 {
			least, most = 0, 0
		}
		after := r.d.Totals(1)
		var gained []int
		for i := range after.Latency {
			for range after.Latency[i] - before.Latency[i] {
				gained = append(gained, i)
			}
		}
		if len(gained) != 1 {
			t.Fatalf("a latency of %d to %d ns is in buckets %v", least, most, gained)
		}
		i := gained[0]
		if i > 0 && most < int64(tables.LatencyBound(i-1)) || i < tables.LatencyBuckets-1 && least >= int64(tables.LatencyBound(i)) {
			t.Errorf("a latency of %d to %d ns is in bucket %d", least, most, i)
		}
	}
}
