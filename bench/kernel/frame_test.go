package kernel

import (
	"encoding/binary"
	"net/netip"
)

// TCP flags.
const (
	fin = 1 << iota
	syn
	rst
	psh
	ack
)

// frame is an Ethernet frame with a TCP segment. Checksums are 0: nothing here looks at them.
func frame(src, dst netip.AddrPort, flags byte, seq, acked uint32, options []byte, payload string) []byte {
	b := []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1}
	length := 20 + len(options) + len(payload)
	if src.Addr().Is4() {
		b = append(b, 8, 0, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(20+length))
		b = append(b, 0, 0, 0, 0, 64, 6, 0, 0)
	} else {
		b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(length))
		b = append(b, 6, 64)
	}
	b = append(append(b, src.Addr().AsSlice()...), dst.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, src.Port())
	b = binary.BigEndian.AppendUint16(b, dst.Port())
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, acked)
	b = append(b, byte(20+len(options))<<2, flags, 0xfa, 0, 0, 0, 0, 0)
	return append(append(b, options...), payload...)
}

// ackOf is the sequence number of a frame's TCP segment, plus one.
func ackOf(f []byte, v6 bool) uint32 {
	at := 14 + 20 + 4
	if v6 {
		at += 20
	}
	return binary.BigEndian.Uint32(f[at:]) + 1
}
