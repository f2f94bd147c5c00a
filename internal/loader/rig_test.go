package loader

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/answer"
	"github.com/cbagent/cbagent/internal/bpf"
	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/tables"
)

// What a program returns.
const (
	verdictNext     = -1 // not ours
	verdictOK       = 0
	verdictDrop     = 2
	verdictRedirect = 7
)

// checksumComplete is BPF_F_TEST_SKB_CHECKSUM_COMPLETE.
const checksumComplete = 1 << 2

// skbContext is struct __sk_buff as BPF_PROG_TEST_RUN takes it. Fields that it does not take stay 0.
type skbContext struct {
	_              [9]uint32
	IngressIfindex uint32
	Ifindex        uint32
	_              [23]uint32
	_              uint64 // flow keys
	_              uint64 // time stamp
	_              [2]uint32
	_              uint64 // socket
	_              [2]uint32
	_              uint64 // hardware time stamp
}

// rig is a datapath with a circuit in a network namespace of its own. Packets are put to the programs one by one. What
// they send by cloning leaves through an interface whose other end is listened to.
type rig struct {
	t        testing.TB
	d        *Datapath
	ns       *netlab.Namespace
	ifindex  int
	complete bool  // packets have a CHECKSUM_COMPLETE, which must be right afterwards
	wires    []int // sockets that receive what is sent out of the interface, and into it
	total    map[string]uint64
}

const uplinkIndex = 77 // ifindex of an interface that counts as an uplink; it need not exist

// flowMax is how many connections the rig can follow, flowReserve how many of these only with something to give back.
const (
	flowMax     = 1024
	flowReserve = flowMax / 8
)

// common is the one rig of all tests: veth pairs take a second to come up.
var common struct {
	rig *rig
	lab netlab.Lab
}

// newRig returns the rig as new.
func newRig(t testing.TB) *rig {
	t.Helper()
	if common.rig == nil {
		r := &rig{total: map[string]uint64{}}
		if err := r.build(&common.lab); err != nil {
			// Without it every test would fail, slowly.
			fmt.Fprintf(os.Stderr, "internal/loader: load and place the programs: %+v\n", err)
			os.Exit(1)
		}
		common.rig = r
	}
	r := common.rig
	r.t = t
	for i := range r.d.objs.Circuits.MaxEntries() {
		if err := r.d.ResetCircuit(int(i), 0); err != nil {
			t.Fatal(err)
		}
	}
	r.complete = false
	r.settle()
	r.d.RenewLease(tables.Now() + int64(time.Hour))
	r.d.SetHostBackends(false)
	r.d.SetNATOnLo(false)
	r.entry(false)
	change(t, r.d.objs.Node, 0, func(n *bpf.CNodeState) {
		n.AnsweringUntil = 0
		n.Secret = [2]uint64{1, 2} // so that no run meets a match by chance
	})
	r.d.SetTrace(false)
	return r
}

func (r *rig) build(lab *netlab.Lab) error {
	far, err := lab.Namespace("far")
	if err != nil {
		return err
	}
	if r.ns, err = lab.Namespace("node"); err != nil {
		return err
	}
	// Else they discover each other, in frames that are none of ours.
	for _, ns := range []*netlab.Namespace{far, r.ns} {
		if err := ns.Sysctl("net.ipv6.conf.default.disable_ipv6", "1"); err != nil {
			return err
		}
	}
	if err := lab.Veth(netlab.End{In: r.ns, Interface: "v0"}, netlab.End{In: far, Interface: "v1"}); err != nil {
		return err
	}
	l, err := r.ns.Links().LinkByName("v0")
	if err != nil {
		return err
	}
	r.ifindex = l.Attrs().Index
	// Frames to the node are for it.
	if err := r.ns.Links().LinkSetHardwareAddr(l, nodeMAC[:]); err != nil {
		return err
	}
	if err := errors.Join(r.listen(far, "v1"), r.listen(r.ns, "v0")); err != nil {
		return err
	}
	if r.d, err = Load(Options{Circuits: 64, Policies: 64, Answers: 64, Flows: flowMax, Ring: 1 << 20}); err != nil {
		return err
	}
	return r.d.SetUplinks([]int{uplinkIndex})
}

// listen opens a socket for the packets that arrive at an interface.
func (r *rig) listen(ns *netlab.Namespace, name string) error {
	l, err := ns.Links().LinkByName(name)
	if err != nil {
		return err
	}
	return ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		r.wires = append(r.wires, fd)
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: be16(unix.ETH_P_ALL), Ifindex: l.Attrs().Index})
	})
}

// closeCommon lets the rig go.
func closeCommon() error {
	if common.rig == nil {
		return nil
	}
	errs := []error{common.rig.d.Close()}
	for _, fd := range common.rig.wires {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(append(errs, common.lab.Close())...)
}

// Places of the first answers of put in HTTP/2 and for gRPC.
const (
	http2Answers = 20
	grpcAnswers  = 30
)

func kernelAnswer(a answer.Rendered) tables.Answer {
	return tables.Answer{
		Bytes: a.Bytes, HeadLen: a.HeadLen, RetryAt: a.RetryAt, RetryPad: a.RetryPad, Status: a.Status, Frames: a.Frames,
	}
}

// put makes circuit 1 responsible for a backend, with policy 1, and answers 0 to 5 for its rejections in HTTP/1.x.
func (r *rig) put(backend netip.AddrPort, s tables.PolicySettings, v ledger.Verdict) {
	r.t.Helper()
	if err := r.putAt(1, backend, s, v); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) putAt(circuit int, backend netip.AddrPort, s tables.PolicySettings, v ledger.Verdict) error {
	if s.Answers == ([tables.Rejections]int{}) {
		for i, reason := range answer.Reasons() {
			status := 503
			if tables.Rejection(i) == tables.RejectedRateLimit {
				status = 429
			}
			a := answer.Render(answer.Spec{Status: status, ContentType: "text/plain", Body: "not now: " + reason}, reason, true)
			if err := r.d.PutAnswer(i, kernelAnswer(a)); err != nil {
				return err
			}
			s.Answers[i] = i
		}
	}
	for i, reason := range answer.Reasons() {
		spec := answer.Spec{Status: 503, ContentType: "text/plain", Body: "not now: " + reason, GRPCStatus: 14, Message: "not now: " + reason}
		if tables.Rejection(i) == tables.RejectedRateLimit {
			spec.Status, spec.GRPCStatus = 429, 8
		}
		if err := errors.Join(r.d.PutAnswer(http2Answers+i, kernelAnswer(answer.RenderHTTP2(spec, reason, true))),
			r.d.PutAnswer(grpcAnswers+i, kernelAnswer(answer.RenderGRPC(spec, reason)))); err != nil {
			return err
		}
		s.HTTP2Answers[i], s.GRPCAnswers[i] = http2Answers+i, grpcAnswers+i
	}
	var none [16]uint64
	if s.Failure == none {
		var set breaker.ResultSet
		set.AddRange(500, 599)
		for _, f := range []breaker.Result{
			breaker.ResultConnectRefused, breaker.ResultConnectTimeout, breaker.ResultReset, breaker.ResultTimeout, breaker.ResultUnreachable,
		} {
			set.Add(f)
		}
		s.Failure = set
	}
	if s.Ignore == none {
		var set breaker.ResultSet
		set.Add(breaker.ResultAborted)
		s.Ignore = set
	}
	if v.Generation == 0 {
		v.Generation = 1
	}
	return errors.Join(r.d.ResetCircuit(circuit, 0), r.d.PutPolicy(circuit, s), r.place(circuit, circuit, v),
		r.backend(tables.Backend{Addr: backend, Direction: s.Direction}, circuit, 0))
}

// backend is PutBackend for as long as the test lasts.
func (r *rig) backend(b tables.Backend, circuit int, flags tables.BackendFlags) error {
	r.t.Cleanup(func() {
		if err := r.d.RemoveBackend(b); err != nil {
			r.t.Error(err)
		}
	})
	return r.d.PutBackend(b, circuit, flags)
}

func (r *rig) place(circuit, policy int, v ledger.Verdict) error {
	r.d.SetPolicy(circuit, policy)
	r.d.SetVerdict(circuit, v)
	return nil
}

// needsChecksumComplete gives packets a CHECKSUM_COMPLETE from now on.
func (r *rig) needsChecksumComplete(t *testing.T) {
	_, err := r.d.objs.Ingress.Run(&ebpf.RunOptions{Data: make([]byte, 64), Flags: checksumComplete})
	r.counted()
	if errors.Is(err, unix.EINVAL) {
		t.Skip("BPF_F_TEST_SKB_CHECKSUM_COMPLETE needs Linux 6.11")
	}
	r.complete = true
}

// run puts one frame to a program.
func (r *rig) run(p *ebpf.Program, frame []byte, ctx skbContext) (int, []byte, error) {
	if ctx.Ifindex == 0 {
		ctx.Ifindex = uint32(r.ifindex)
	}
	opts := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+2048), Context: ctx}
	if r.complete {
		opts.Flags = checksumComplete
	}
	var ret uint32
	err := r.ns.Do(func() (err error) {
		ret, err = p.Run(&opts)
		return err
	})
	return int(int32(ret)), opts.DataOut, err
}

// counted returns what the counters of packets gained since the last call.
func (r *rig) counted() map[string]uint64 {
	r.t.Helper()
	all, err := r.d.Packets()
	if err != nil {
		r.t.Fatal(err)
	}
	gained := map[string]uint64{}
	for _, c := range all {
		key := c.Hook + " " + c.Action + " " + c.Reason
		if n := c.Packets - r.total[key]; n > 0 {
			gained[key] = n
		}
		r.total[key] = c.Packets
	}
	return gained
}

// discard forgets what was sent by cloning.
func (r *rig) discard() {
	buf := make([]byte, 1)
	for _, fd := range r.wires {
		for {
			if _, _, err := unix.Recvfrom(fd, buf, unix.MSG_TRUNC); err != nil {
				break
			}
		}
	}
}

// sentFrames reads what was sent by cloning since the last call.
func (r *rig) sentFrames(l3 bool) []segment {
	r.t.Helper()
	var all []segment
	buf := make([]byte, 65536)
	for _, fd := range r.wires {
		for {
			n, from, err := unix.Recvfrom(fd, buf, 0)
			if errors.Is(err, unix.EAGAIN) {
				break
			}
			if err != nil {
				r.t.Fatalf("read what was sent: %v", err)
			}
			if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
				continue
			}
			s, err := parseSegment(append([]byte(nil), buf[:n]...), l3)
			if errors.Is(err, errNotTCP) {
				continue // the kernel's own, such as neighbour discovery
			}
			if err != nil {
				r.t.Fatalf("sent frame: %v", err)
			}
			all = append(all, s)
		}
	}
	return all
}

// events reads all that is in the ring.
func (r *rig) events() []ledger.Event {
	r.t.Helper()
	var all []ledger.Event
	for {
		ev, err := r.d.NextEvent(time.Now().Add(-time.Second))
		if errors.Is(err, tables.ErrNoEvent) {
			return all
		}
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, ev)
	}
}

// sweepAt runs the sweep as if the clock said now.
func (r *rig) sweepAt(now int64, idle time.Duration) int {
	r.t.Helper()
	args := bpf.CSweepArgs{Now: uint64(now), Idle: uint64(idle)}
	ret, err := r.d.objs.Sweep.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args})
	if err != nil || ret != 0 {
		r.t.Fatalf("sweep: returned %d, %v", ret, err)
	}
	return int(args.Flows)
}

// flow reads a followed connection; ok is false when there is none.
func (r *rig) flow(client, backend netip.AddrPort) (f bpf.CFlow, ok bool) {
	r.t.Helper()
	err := r.d.objs.Flows.Lookup(flowKey(client, backend), &f)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		r.t.Fatal(err)
	}
	return f, err == nil
}

func flowKey(client, backend netip.AddrPort) bpf.CFlowKey {
	return bpf.CFlowKey{
		Client: client.Addr().As16(), ClientPortBe: be16(client.Port()),
		Backend: backend.Addr().As16(), BackendPortBe: be16(backend.Port()),
	}
}

// clearMap removes all entries of a map.
func clearMap[K any](r *rig, m *ebpf.Map) {
	r.t.Helper()
	var key K
	var keys []K
	val := make([]byte, m.ValueSize())
	for it := m.Iterate(); it.Next(&key, &val); {
		keys = append(keys, key)
	}
	for _, k := range keys {
		if err := m.Delete(k); err != nil {
			r.t.Fatal(err)
		}
	}
}

// settle ends whatever goes on, so that the next case begins with nothing.
func (r *rig) settle() {
	r.t.Helper()
	for _, m := range []*ebpf.Map{r.d.objs.Flows, r.d.objs.Answered, r.d.objs.CMaps.Kept, r.d.objs.NatFlows} {
		clearMap[bpf.CFlowKey](r, m)
	}
	clearMap[uint64](r, r.d.objs.Http2Connections)
	clearMap[bpf.CStreamKey](r, r.d.objs.Streams)
	change(r.t, r.d.objs.Node, 0, func(n *bpf.CNodeState) { n.FlowCount, n.Http2Count, n.SweepRequested = 0, 0, 0 })
	r.events()
	r.counted()
	r.discard()
}

// want are the totals of a circuit that a case expects; what it does not name must be 0. Latencies are left out, but
// for their number.
type want struct {
	Connections, InFlight, Admitted, Probes, Unjudged uint64
	Rejected                                          map[string]uint64 // "open respond"
	Would                                             map[string]uint64 // "open"
	Outcomes                                          map[string]uint64 // "reset", "5xx"
	Judged, Failures, Slow                            uint64
	Permits, PermitsOut                               uint32
	OverAdmitted, Takeovers                           uint64
}

func (r *rig) totals(circuit int) want {
	r.t.Helper()
	t, p := r.d.Totals(circuit), r.d.Progress(circuit)
	c := element[bpf.CCircuit](r.t, r.d.objs.Circuits, circuit)
	w := want{
		OverAdmitted: c.OverAdmitted, Takeovers: c.Takeovers,
		Connections: t.Connections, InFlight: t.InFlight, Admitted: t.Admitted, Probes: t.Probes, Unjudged: t.Unjudged,
		Judged: p.Judged, Failures: p.Failures, Slow: p.Slow, Permits: p.Permits, PermitsOut: p.InFlight,
	}
	add := func(m *map[string]uint64, key string, n uint64) {
		if n == 0 {
			return
		}
		if *m == nil {
			*m = map[string]uint64{}
		}
		(*m)[key] += n
	}
	for i := range t.Rejected {
		for j, n := range t.Rejected[i] {
			add(&w.Rejected, tables.Rejection(i).String()+" "+tables.RejectNames[j], n)
		}
		add(&w.Would, tables.Rejection(i).String(), t.Would[i])
	}
	var responses, latencies uint64
	named := len(breaker.NamedResults())
	for i, n := range t.Outcomes {
		if i >= named {
			responses += n
		}
		add(&w.Outcomes, tables.OutcomeName(i), n)
	}
	for _, n := range t.Latency {
		latencies += n
	}
	if responses != latencies {
		r.t.Errorf("circuit %d: %d responses, %d latencies", circuit, responses, latencies)
	}
	return w
}

func (r *rig) wantTotals(w want) {
	r.t.Helper()
	if diff := cmp.Diff(w, r.totals(1)); diff != "" {
		r.t.Errorf("totals (-want +got):\n%s", diff)
	}
}

// conn is a connection as the two hosts at its ends see it, which only send what TCP allows.
type conn struct {
	r               *rig
	client, backend netip.AddrPort
	out, in         *ebpf.Program // for packets to the backend, and from it
	hookOut, hookIn string
	ctx             skbContext // of packets to the backend
	l3              bool
	to              [6]byte // where frames go; zero: to the node
	vlans           []uint16
	answers         int    // verdict for packets that were turned into answers
	options         []byte // of all but SYNs
	seq, ack        uint32 // of the client
}

var (
	clientV4  = netip.MustParseAddrPort("192.0.2.10:40000")
	backendV4 = netip.MustParseAddrPort("198.51.100.7:8080")
	clientV6  = netip.MustParseAddrPort("[2001:db8:1::10]:40000")
	backendV6 = netip.MustParseAddrPort("[2001:db8:2::7]:8080")
)

// family are the addresses of a case.
type family struct {
	name            string
	client, backend netip.AddrPort
}

var families = []family{{"IPv4", clientV4, backendV4}, {"IPv6", clientV6, backendV6}}

// dial returns a connection of which nothing was sent yet.
func (r *rig) dial(client, backend netip.AddrPort) *conn {
	return &conn{
		r: r, client: client, backend: backend, out: r.d.objs.Egress, in: r.d.objs.Ingress,
		hookOut: "egress", hookIn: "ingress", seq: 1000, answers: verdictRedirect,
	}
}

// result is what a program made of a packet.
type result struct {
	verdict int
	segment segment // what the packet is now
	same    bool    // it is as it was
	counted map[string]uint64
	sent    []segment
}

// put runs a segment of the client, or of the backend.
func (c *conn) put(p *ebpf.Program, s segment, ctx skbContext) result {
	c.r.t.Helper()
	s.l3, s.vlans = c.l3, c.vlans
	s.srcMAC, s.dstMAC = clientMAC, nodeMAC
	if c.to != ([6]byte{}) {
		s.dstMAC = c.to
	}
	frame := s.bytes()
	verdict, out, err := c.r.run(p, frame, ctx)
	if err != nil {
		c.r.t.Fatalf("%s: %v", s, err)
	}
	res := result{verdict: verdict, same: string(out) == string(frame), counted: c.r.counted(), sent: c.r.sentFrames(c.l3)}
	if verdict == verdictRedirect || verdict == verdictOK {
		if res.segment, err = parseSegment(out, c.l3); err != nil {
			c.r.t.Fatalf("%s became a bad packet: %v", s, err)
		}
		if res.segment.srcMAC != nodeMAC && !c.l3 || res.segment.dstMAC != clientMAC && !c.l3 {
			c.r.t.Errorf("the answer has MAC addresses %x > %x", res.segment.srcMAC, res.segment.dstMAC)
		}
		if res.segment.src != s.dst || res.segment.dst != s.src {
			c.r.t.Errorf("the answer goes from %s to %s", res.segment.src, res.segment.dst)
		}
		if len(res.segment.vlans) != len(c.vlans) {
			c.r.t.Errorf("the answer has %d VLAN tags, expected %d", len(res.segment.vlans), len(c.vlans))
		}
	}
	return res
}

// segment returns the client's next segment.
func (c *conn) segment(flags uint8, payload string) segment {
	s := segment{src: c.client, dst: c.backend, seq: c.seq, ack: c.ack, flags: flags, payload: []byte(payload)}
	if flags&syn == 0 {
		s.options = c.options
	}
	return s
}

// send puts a segment of the client to the programs and moves its sequence number on.
func (c *conn) send(flags uint8, payload string) result {
	c.r.t.Helper()
	s := c.segment(flags, payload)
	if flags&syn != 0 && s.options == nil {
		s.options = mssOption(1460)
	}
	res := c.put(c.out, s, c.ctx)
	c.seq += uint32(len(payload))
	if flags&(syn|fin) != 0 {
		c.seq++
	}
	return res
}

// recv puts a segment of the backend to the programs and acknowledges it in what the client sends next.
func (c *conn) recv(flags uint8, payload string) result {
	c.r.t.Helper()
	res := c.recvAt(c.ack, flags, payload)
	c.ack += uint32(len(payload))
	if flags&(syn|fin) != 0 {
		c.ack++
	}
	return res
}

// recvAt puts a segment of the backend with some sequence number to the programs.
func (c *conn) recvAt(seq uint32, flags uint8, payload string) result {
	c.r.t.Helper()
	return c.put(c.in, segment{
		src: c.backend, dst: c.client, seq: seq, ack: c.seq, flags: flags, options: c.options, payload: []byte(payload),
	}, skbContext{})
}

// passed checks that a packet was passed unchanged, and counted once for that reason.
func (c *conn) passed(res result, hook, reason string) {
	c.r.t.Helper()
	c.did(res, verdictNext, hook+" pass "+reason)
	if !res.same {
		c.r.t.Error("the packet was passed, but changed")
	}
}

// did checks the verdict and all counters.
func (c *conn) did(res result, verdict int, counters ...string) {
	c.r.t.Helper()
	if res.verdict != verdict {
		c.r.t.Errorf("verdict %d, expected %d", res.verdict, verdict)
	}
	want := map[string]uint64{}
	for _, k := range counters {
		want[k]++
	}
	if diff := cmp.Diff(want, res.counted); diff != "" {
		c.r.t.Errorf("packet counters (-want +got):\n%s", diff)
	}
}

// open opens the connection, and checks that no packet is rejected.
func (c *conn) open() *conn {
	c.r.t.Helper()
	c.connect("admitted")
	return c
}

// connect is open for a SYN that is passed for another reason.
func (c *conn) connect(reason string) {
	c.r.t.Helper()
	c.passed(c.send(syn, ""), c.hookOut, reason)
	c.ack = 5000
	c.passed(c.recv(syn|ack, ""), c.hookIn, "flow")
	c.passed(c.send(ack, ""), c.hookOut, "flow")
}

const (
	get     = "GET /orders HTTP/1.1\r\nHost: orders\r\n\r\n"
	head    = "HEAD /orders HTTP/1.1\r\nHost: orders\r\n\r\n"
	ok      = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	failed  = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
	proceed = "HTTP/1.1 100 Continue\r\n\r\n"
)

// ask sends a request and checks that it is passed.
func (c *conn) ask(request string) {
	c.r.t.Helper()
	c.passed(c.send(psh|ack, request), c.hookOut, "admitted")
}

// answer sends a response of the backend.
func (c *conn) answer(response string) {
	c.r.t.Helper()
	c.passed(c.recv(psh|ack, response), c.hookIn, "flow")
}

// program returns one of the programs that are loaded when asked for.
func (r *rig) program(name string) *ebpf.Program {
	r.t.Helper()
	r.d.mu.Lock()
	defer r.d.mu.Unlock()
	p, err := r.d.program(name)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// place is where the programs meet a connection.
type place struct {
	name     string
	families []family
	set      func(r *rig, c *conn)
}

var places = []place{
	{"egress", families, func(*rig, *conn) {}},
	{"egress with a VLAN tag", families, func(_ *rig, c *conn) { c.vlans = []uint16{etherTypeVLAN} }},
	{"egress of an L3 device", familiesL3, func(r *rig, c *conn) {
		c.out, c.in, c.l3 = r.program("egress_l3"), r.program("ingress_l3"), true
	}},
	{"loopback", families, func(r *rig, c *conn) {
		c.out, c.in = r.program("loopback"), r.program("loopback")
		c.hookOut, c.hookIn, c.answers = "loopback", "loopback", verdictOK
	}},
	{"ingress", families, func(r *rig, c *conn) {
		r.d.SetHostBackends(true)
		c.out, c.in, c.hookOut, c.hookIn = r.d.objs.Ingress, r.d.objs.Egress, "ingress", "egress"
		if err := r.backend(tables.Backend{Addr: c.backend}, 1, tables.OnHost); err != nil {
			r.t.Fatal(err)
		}
	}},
	{"ingress of an L3 device", familiesL3, func(r *rig, c *conn) {
		r.d.SetHostBackends(true)
		c.out, c.in, c.hookOut, c.hookIn, c.l3 = r.program("ingress_l3"), r.program("egress_l3"), "ingress", "egress", true
		if err := r.backend(tables.Backend{Addr: c.backend}, 1, tables.OnHost); err != nil {
			r.t.Fatal(err)
		}
	}},
}

// entries are where clients are rejected before their packets are routed.
var entries = []place{
	{"entry", families, enter},
	{"entry with a VLAN tag", families, func(r *rig, c *conn) {
		enter(r, c)
		c.vlans = []uint16{etherTypeVLAN}
	}},
}

func enter(r *rig, c *conn) {
	r.entry(true)
	c.out, c.in, c.hookOut, c.hookIn = r.d.objs.Ingress, r.d.objs.Egress, "ingress", "egress"
}

// entry sets whether clients are rejected as they enter. The programs are not attached, so the datapath cannot find out by
// itself.
func (r *rig) entry(on bool) {
	var where []int
	if on {
		where = []int{r.ifindex}
	}
	if err := r.d.SetEntries(where); err != nil {
		r.t.Fatal(err)
	}
}

// everywhere runs a case at each place, over IPv4 and IPv6, with a circuit of its own.
func everywhere(t *testing.T, s tables.PolicySettings, v ledger.Verdict, test func(t *testing.T, c *conn)) {
	t.Helper()
	at(t, places, s, v, test)
}

// wherever is everywhere, and at entries too.
func wherever(t *testing.T, s tables.PolicySettings, v ledger.Verdict, test func(t *testing.T, c *conn)) {
	t.Helper()
	at(t, slices.Concat(places, entries), s, v, test)
}

func at(t *testing.T, where []place, s tables.PolicySettings, v ledger.Verdict, test func(t *testing.T, c *conn)) {
	t.Helper()
	for _, p := range where {
		for _, f := range p.families {
			t.Run(p.name+"/"+f.name, func(t *testing.T) {
				r := newRig(t)
				r.put(f.backend, s, v)
				c := r.dial(f.client, f.backend)
				p.set(r, c)
				test(t, c)
			})
		}
	}
}

// openFor is the verdict of a circuit that is open for a while.
func openFor(d time.Duration) ledger.Verdict {
	return ledger.Verdict{Kind: ledger.Open, Generation: 1, Until: tables.Now() + int64(d), Calls: 1, Concurrent: 1}
}

// parseAnswer reads an HTTP answer: its status, headers by name, and body.
func parseAnswer(b []byte) (status string, headers map[string]string, body string, err error) {
	top, body, found := strings.Cut(string(b), "\r\n\r\n")
	if !found {
		return "", nil, "", fmt.Errorf("answer without an empty line: %q", b)
	}
	lines := strings.Split(top, "\r\n")
	headers = map[string]string{}
	for _, l := range lines[1:] {
		name, value, _ := strings.Cut(l, ":")
		headers[name] = strings.TrimLeft(value, " ") // blanks after a value stay: some clients keep them, too
	}
	return lines[0], headers, body, nil
}
