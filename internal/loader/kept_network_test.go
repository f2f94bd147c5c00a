package loader

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/net/http2"

	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/tables"
)

// tcpClient is a client's TCP: it sends data in segments of any size, again when it has waited in vain, and puts in order what
// it receives.
type tcpClient struct {
	*conn
	random   *rand.Rand
	data     []byte
	begin    uint32 // sequence number of the data
	una, nxt int    // of the data: acknowledged, sent
	first    uint32 // sequence number of what it receives
	received []byte
	owes     bool // it has not acknowledged what it has received
	out, in  []segment
}

// step lets one thing happen, and reports whether there was any.
func (c *tcpClient) step() bool {
	c.r.t.Helper()
	switch n := c.random.IntN(4); {
	case n == 0 && c.nxt < len(c.data):
		c.sendData(c.nxt)
	case n == 1 && len(c.in) > 0:
		c.receive(c.take(&c.in))
	case n == 2 && c.owes:
		c.acknowledge()
	case len(c.out) > 0:
		c.pass(c.take(&c.out))
	case len(c.in) > 0:
		c.receive(c.take(&c.in))
	case c.owes:
		c.acknowledge()
	case c.nxt < len(c.data):
		c.sendData(c.nxt)
	case c.una < len(c.data):
		c.waits()
		c.sendData(c.una)
	default:
		return false
	}
	return true
}

// waits lets more than 20 ms pass.
func (c *tcpClient) waits() {
	c.r.t.Helper()
	var entry bpf.CKeptConnection
	key, kept := flowKey(c.client, c.backend), c.r.d.objs.CMaps.Kept
	if err := kept.Lookup(key, &entry); errors.Is(err, ebpf.ErrKeyNotExist) {
		return
	} else if err != nil {
		c.r.t.Fatal(err)
	}
	entry.Repeated = 0
	if err := kept.Put(key, &entry); err != nil {
		c.r.t.Fatal(err)
	}
}

// take removes a packet that is under way, mostly the first. The network loses and doubles some.
func (c *tcpClient) take(from *[]segment) *segment {
	i := 0
	if c.random.IntN(5) == 0 {
		i = c.random.IntN(len(*from))
	}
	s := (*from)[i]
	switch c.random.IntN(10) {
	case 0:
		*from = slices.Delete(*from, i, i+1)
		return nil
	case 1:
		return &s
	}
	*from = slices.Delete(*from, i, i+1)
	return &s
}

func (c *tcpClient) enqueue(payload []byte, at int) {
	c.out = append(c.out, segment{
		src: c.client, dst: c.backend, flags: psh | ack, seq: c.begin + uint32(at), ack: c.first + uint32(len(c.received)), payload: payload,
	})
	c.owes = false
}

func (c *tcpClient) sendData(at int) {
	n := min(16+c.random.IntN(300), len(c.data)-at)
	c.enqueue(c.data[at:at+n], at)
	c.nxt = max(c.nxt, at+n)
}

func (c *tcpClient) acknowledge() { c.enqueue(nil, c.nxt) }

// pass has the programs decide about a packet of the client.
func (c *tcpClient) pass(s *segment) {
	c.r.t.Helper()
	if s == nil {
		return
	}
	res := c.put(c.conn.out, *s, c.ctx)
	c.in = append(c.in, res.sent...)
	switch res.verdict {
	case verdictRedirect:
		c.in = append(c.in, res.segment)
	case verdictDrop:
	default:
		c.r.t.Fatalf("%s: verdict %d", s, res.verdict)
	}
}

// receive handles a packet of the kernel. Bytes that come again must be the same.
func (c *tcpClient) receive(s *segment) {
	c.r.t.Helper()
	if s == nil {
		return
	}
	if s.flags&^(psh|ackFlag) != 0 {
		c.r.t.Fatalf("the kernel sent %s", s)
	}
	if acked := int(int32(s.ack - c.begin)); acked > c.nxt {
		c.r.t.Fatalf("%s acknowledges %d bytes of %d", s, acked, c.nxt)
	} else {
		c.una = max(c.una, acked)
	}
	at := int(int32(s.seq - c.first))
	if len(s.payload) == 0 {
		return
	}
	c.owes = true
	if at > len(c.received) {
		return // behind a gap
	}
	known := c.received[at:min(at+len(s.payload), len(c.received))]
	if !bytes.Equal(known, s.payload[:len(known)]) {
		c.r.t.Fatalf("%s was %q before", s, known)
	}
	c.received = append(c.received, s.payload[len(known):]...)
}

// A client over a network that loses, doubles and reorders packets gets each answer once, and never waits in vain: as long as it
// lacks an answer it has data to send again.
func TestKeptConnectionOverAnyNetwork(t *testing.T) {
	const seeds, requests = 30, 40
	for seed := range uint64(seeds) {
		r := newRig(t)
		r.put(backendV4, tables.PolicySettings{Reject: tables.Respond}, openFor(time.Hour))
		c := &tcpClient{conn: r.dial(clientV4, backendV4), random: rand.New(rand.NewPCG(seed, 0))}
		c.answeredSYN("open")
		c.begin, c.first = c.conn.seq, c.ack
		p := newPeer()
		must(p.framer.WriteSettings())
		c.data = []byte(http2.ClientPreface + p.take())
		streams := uint32(0)
		for range requests {
			switch c.random.IntN(3) {
			case 0:
				p.call(2*streams + 1)
			case 1:
				p.headers(2*streams+1, false, ":method", "POST").data(2*streams+1, true, strings.Repeat("x", c.random.IntN(2000)))
			default:
				p.get(2*streams + 1)
			}
			streams++
		}
		c.data = append(c.data, p.take()...)
		for steps := 0; c.step(); steps++ {
			if steps > 100_000 {
				t.Fatalf("seed %d: no end", seed)
			}
		}
		answered := 0
		for _, f := range newReader(t).read(c.received) {
			if strings.HasSuffix(f, " END") {
				answered++
			}
		}
		if answered != requests {
			t.Errorf("seed %d: %d requests have an answer", seed, answered)
		}
		r.wantTotals(want{Rejected: map[string]uint64{"open respond": requests}})
		if t.Failed() {
			return
		}
	}
}
