package scale

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cbagent/cbagent/bench/peer"
	"github.com/cbagent/cbagent/bench/wire"
	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// Connections are made of made-up packets: a handshake, a request and its answer, each passing the node as real ones
// do. The ends throw away what arrives, so nobody answers and nothing but the flow table holds them.
const (
	firstPort    = 1100 // of a client
	flowsOfPort  = 60_000
	firstService = 9000 // port of the first of the services that they go to
)

// services returns the addresses that n flows need.
func services(site *peer.Site, n int) []netip.AddrPort {
	var all []netip.AddrPort
	for i := range (n + flowsOfPort - 1) / flowsOfPort {
		all = append(all, netip.AddrPortFrom(site.Backends[0].IPv4, uint16(firstService+i)))
	}
	return all
}

// deafen makes both ends throw away the packets of made-up connections.
func deafen(site *peer.Site) error {
	return errors.Join(
		site.Client.NFT("table ip bench { chain lose { type filter hook input priority 0; tcp sport 9000-9999 drop; }; }"),
		site.Backends[0].NFT("table ip bench { chain lose { type filter hook input priority 0; tcp dport 9000-9999 drop; }; }"))
}

// makeFlows makes n connections, from the one numbered first on.
func makeFlows(ctx context.Context, site *peer.Site, first, n int) error {
	clientSide, err := site.Node.Links().LinkByName("cl0")
	if err != nil {
		return fmt.Errorf("find cl0: %w", err)
	}
	backendSide, err := site.Node.Links().LinkByName(site.Backends[0].Interface)
	if err != nil {
		return fmt.Errorf("find %s: %w", site.Backends[0].Interface, err)
	}
	client, err := wire.OpenPort(site.Client, clientSide.Attrs().HardwareAddr)
	if err != nil {
		return err
	}
	defer client.Close()
	server, err := wire.OpenPort(site.Backends[0].Namespace, backendSide.Attrs().HardwareAddr)
	if err != nil {
		return err
	}
	defer server.Close()
	const request = "GET / HTTP/1.1\r\nHost: bench\r\n\r\n"
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	for i := first; i < first+n; i++ {
		if i%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		c := netip.AddrPortFrom(netlab.ClientIPv4, uint16(firstPort+i%flowsOfPort))
		s := netip.AddrPortFrom(site.Backends[0].IPv4, uint16(firstService+i/flowsOfPort))
		for _, one := range []struct {
			by *wire.Port
			wire.Segment
		}{
			{client, wire.Segment{From: c, To: s, Flags: wire.SYN, Seq: 1000}},
			{server, wire.Segment{From: s, To: c, Flags: wire.SYN | wire.ACK, Seq: 5000, Ack: 1001}},
			{client, wire.Segment{From: c, To: s, Flags: wire.PSH | wire.ACK, Seq: 1001, Ack: 5001, Payload: request}},
			{server, wire.Segment{From: s, To: c, Flags: wire.PSH | wire.ACK, Seq: 5001, Ack: 1001 + uint32(len(request)), Payload: answer}},
		} {
			if err := one.by.Send(one.Segment); err != nil {
				return err
			}
		}
	}
	return nil
}
