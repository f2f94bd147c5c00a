package e2e

import (
	"net/netip"
	"os/exec"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// masqueraded hides clients behind the node's address, without another destination.
func masqueraded(t *testing.T) place {
	p := everywherePlace(t, netlab.Options{Backends: 2})
	nft(t, p.node, `table ip nat {
		chain postrouting { type nat hook postrouting priority 100; ip daddr 10.21.1.2 masquerade; }
	}`)
	firewall(t, p.node)
	return p
}

// On interfaces that clients enter by they are rejected there, if they dial the backend itself. What is seen on the way
// out only, or was let in before, is rejected as ever. Once the circuit has closed all is as it was.
func TestClientsAreRejectedWhereTheyEnter(t *testing.T) {
	t.Parallel()
	ipv6 := starEverywhere(true)
	for _, tc := range []struct {
		name  string
		place func(t *testing.T) place
		flags []string
		at    string // the hook that rejects new clients
	}{
		{"IPv4", starEverywhere(false), nil, "ingress"},
		{"IPv6", ipv6, nil, "ingress"},
		{"clsact", ipv6, []string{"--clsact"}, "ingress"},
		{"switched off", ipv6, []string{"--reject-at-entry=false"}, "egress"},
		{"bridge", places["every port"], nil, "ingress"},
		{"pods of one bridge", func(t *testing.T) place {
			p, _ := podsPlace(t, false)
			p.interfaces = []string{"*"}
			return p
		}, nil, "egress"},
		{"firewall", func(t *testing.T) place {
			p := everywherePlace(t, netlab.Options{Backends: 2})
			firewall(t, p.node)
			return p
		}, nil, "ingress"},
		{"masquerade", masqueraded, nil, "ingress"},
		{"DNAT and masquerade", func(t *testing.T) place {
			p := places["DNAT and masquerade"](t)
			p.interfaces = []string{"*"}
			return p
		}, nil, "egress"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := tc.place(t)
			agent := startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, threeFailures...), p.interfaces, tc.flags...)
			kept := client(t, p.client, p.dial)
			wantStatus(t, call(t, kept), 200)
			at := func(action string) (ingress, egress float64) {
				ingress, _ = metric(t, p.node, "cbagent_packets_total", `hook="ingress"`, `action="`+action+`"`, `reason="open"`)
				egress, _ = metric(t, p.node, "cbagent_packets_total", `hook="egress"`, `action="`+action+`"`, `reason="open"`)
				return ingress, egress
			}

			p.server.Set(testserver.Behaviour{Status: 500})
			c := client(t, p.client, p.backend)
			for range 3 {
				wantStatus(t, call(t, c), 500)
			}
			eventually(t, "the circuit opens", func() bool {
				_, kernel := call(t, client(t, p.client, p.dial)).FromKernel()
				return kernel
			})
			before := p.server.Counts()
			in, out := at("respond")
			for _, request := range []loadgen.Request{{}, {Method: "DELETE"}, {Method: "POST", Body: testserver.FakeTraffic(1 << 20)}} {
				wantAnswer(t, client(t, p.client, p.dial).Do(soon(t), request), "open")
			}
			inNow, outNow := at("respond")
			if tc.at == "ingress" && (inNow < in+6 || outNow != out) || tc.at == "egress" && (inNow != in || outNow < out+6) {
				t.Errorf("a SYN and a request of 3 clients each were rejected at ingress %v times, at egress %v", inNow-in, outNow-out)
			}
			// The backend's side is reset on the way out.
			wantAnswer(t, call(t, kept), "open")
			if _, last := at("respond"); last != outNow+1 {
				t.Errorf("a request of a connection that was let in: rejected at egress %v times", last-outNow)
			}
			if got := p.server.Counts().Sub(before); got.Requests != 0 {
				t.Errorf("the backend got %d requests", got.Requests)
			}

			p.server.Set(testserver.Behaviour{})
			closing := exec.CommandContext(soon(t), binary, "close", "test", "--reason", "it is well", "--control-socket", agent.ControlSocket())
			if said, err := closing.CombinedOutput(); err != nil {
				t.Fatalf("close the circuit: %v, %s", err, said)
			}
			again := client(t, p.client, p.dial)
			for range 20 {
				wantStatus(t, call(t, again), 200)
				wantStatus(t, call(t, client(t, p.client, p.dial)), 200)
			}
		})
	}
}

// Where others attach a program, before the agent or after, clients are rejected on the way out: an answer that the
// others' connection tracking does not know could be dropped there. When they have gone all is as before.
func TestEntriesOfOthersAreLeftAlone(t *testing.T) {
	t.Parallel()
	for name, where := range map[string]ebpf.AttachType{"ingress": ebpf.AttachTCXIngress, "egress": ebpf.AttachTCXEgress} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := starEverywhere(false)(t)
			startAgent(t, p.node, policyOf([]netip.AddrPort{p.backend}, "mode: forced-open"), p.interfaces)
			at := func(hook string) func() bool {
				return func() bool {
					before, _ := metric(t, p.node, "cbagent_packets_total", `hook="`+hook+`"`, `action="respond"`)
					wantAnswer(t, call(t, client(t, p.client, p.dial)), "forced-open")
					after, _ := metric(t, p.node, "cbagent_packets_total", `hook="`+hook+`"`, `action="respond"`)
					return after == before+2
				}
			}
			if !at("ingress")() {
				t.Error("clients are not rejected where they enter")
			}
			detach := attachTC(t, p.node, "cl0", where, classifier(t, nil))
			eventually(t, "clients are rejected on the way out", at("egress"))
			detach()
			eventually(t, "clients are rejected where they enter again", at("ingress"))
		})
	}
}

// starEverywhere is a star whose every interface has the programs.
func starEverywhere(v6 bool) func(t *testing.T) place {
	return func(t *testing.T) place {
		p := starPlace(t, netlab.Options{Backends: 2}, v6)
		p.interfaces = []string{"*"}
		return p
	}
}
