package loader

import (
	"testing"
	"time"
)

func TestSmoke(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			r := newRig(t)
			r.put(f.backend, PolicySettings{Existing: true}, Verdict{Kind: Closed})
			c := r.dial(f.caller, f.backend).open()
			c.ask(get)
			c.answer(ok)
			c.ask(get)
			c.answer(failed)
			r.wantTotals(want{Connections: 1, Admitted: 2, Judged: 2, Failures: 1, Outcomes: map[string]uint64{"2xx": 1, "5xx": 1}})

			r.d.Publish(1, Verdict{Kind: Open, Generation: 2, Until: Now() + int64(time.Minute), Calls: 1, Concurrent: 1})
			res := c.send(psh|ack, get)
			c.did(res, verdictRedirect, "egress respond open")
			t.Log(res.segment, res.sent)

			c = r.dial(f.caller, f.backend)
			c.did(c.send(syn, ""), verdictRedirect, "egress respond open")
		})
	}
}
