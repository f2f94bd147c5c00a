package tables

import (
	"encoding/binary"
	"net/netip"

	"github.com/cbagent/cbagent/internal/bpf"
)

// be16 returns a port in network byte order, as the programs keep it.
func be16(port uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], port)
	return binary.NativeEndian.Uint16(b[:])
}

// addrPort returns an address and a port of the programs; IPv4 is ::ffff:a.b.c.d there.
func addrPort(addr [16]byte, portBe uint16) netip.AddrPort {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], portBe)
	return netip.AddrPortFrom(netip.AddrFrom16(addr).Unmap(), binary.BigEndian.Uint16(b[:]))
}

// bits16 returns the length of a prefix in bits of a 16-byte address.
func bits16(p netip.Prefix) uint32 {
	if p.Addr().Is4() {
		return uint32(p.Bits()) + 96
	}
	return uint32(p.Bits())
}

// endpoint returns a backend as a key of the programs' maps.
func endpoint(b Backend) bpf.CEndpoint {
	return bpf.CEndpoint{Addr: b.Addr.Addr().As16(), PortBe: be16(b.Addr.Port()), Direction: uint16(b.Direction)}
}

func backendOf(key bpf.CEndpoint) Backend {
	return Backend{Addr: addrPort(key.Addr, key.PortBe), Direction: Direction(key.Direction)}
}
