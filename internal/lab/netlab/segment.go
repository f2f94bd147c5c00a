package netlab

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Flags of a TCP segment.
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
)

// Segment is a TCP segment over IPv4 or IPv6 in an Ethernet frame, as far as tests read and forge them.
type Segment struct {
	SrcMAC, DstMAC [6]byte
	Src, Dst       netip.AddrPort
	Seq, Ack       uint32
	Flags          uint8 // FIN, SYN ...
	Window         uint16
	Options        []byte // a multiple of 4 bytes, at most 40
	Payload        []byte
}

// Lengths of headers without options.
const (
	ethernetLen = 14
	ipv4Len     = 20
	ipv6Len     = 40
	tcpLen      = 20
)

// ParseSegment reads a frame. Its slices are parts of the frame. ok is false for all that is not a whole TCP segment, and
// for IPv6 with extension headers. It checks no checksums.
func ParseSegment(frame []byte) (s Segment, ok bool) {
	if len(frame) < ethernetLen+ipv4Len {
		return s, false
	}
	copy(s.DstMAC[:], frame)
	copy(s.SrcMAC[:], frame[6:])
	ip := frame[ethernetLen:]
	var src, dst netip.Addr
	var tcp []byte
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_IP:
		head, total := int(ip[0]&0xf)*4, int(binary.BigEndian.Uint16(ip[2:]))
		fragment := binary.BigEndian.Uint16(ip[6:])&0x3fff != 0
		if ip[9] != unix.IPPROTO_TCP || fragment || head < ipv4Len || total < head || total > len(ip) {
			return s, false
		}
		src, dst = netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:]))
		tcp = ip[head:total]
	case unix.ETH_P_IPV6:
		if len(ip) < ipv6Len || ip[6] != unix.IPPROTO_TCP {
			return s, false
		}
		total := ipv6Len + int(binary.BigEndian.Uint16(ip[4:]))
		if total > len(ip) {
			return s, false
		}
		src, dst = netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:]))
		tcp = ip[ipv6Len:total]
	default:
		return s, false
	}
	if len(tcp) < tcpLen {
		return s, false
	}
	head := int(tcp[12]>>4) * 4
	if head < tcpLen || head > len(tcp) {
		return s, false
	}
	s.Src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(tcp))
	s.Dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(tcp[2:]))
	s.Seq, s.Ack = binary.BigEndian.Uint32(tcp[4:]), binary.BigEndian.Uint32(tcp[8:])
	s.Flags = tcp[13]
	s.Window = binary.BigEndian.Uint16(tcp[14:])
	s.Options, s.Payload = tcp[tcpLen:head], tcp[head:]
	return s, true
}

// Frame returns the segment as a frame with right lengths and checksums.
func (s Segment) Frame() []byte {
	tcp := make([]byte, tcpLen, tcpLen+len(s.Options)+len(s.Payload))
	binary.BigEndian.PutUint16(tcp, s.Src.Port())
	binary.BigEndian.PutUint16(tcp[2:], s.Dst.Port())
	binary.BigEndian.PutUint32(tcp[4:], s.Seq)
	binary.BigEndian.PutUint32(tcp[8:], s.Ack)
	tcp[12], tcp[13] = byte((tcpLen+len(s.Options))/4)<<4, s.Flags
	binary.BigEndian.PutUint16(tcp[14:], s.Window)
	tcp = append(append(tcp, s.Options...), s.Payload...)
	src, dst := s.Src.Addr().AsSlice(), s.Dst.Addr().AsSlice()
	pseudo := sum(0, src) + sum(0, dst) + unix.IPPROTO_TCP + uint64(len(tcp))
	binary.BigEndian.PutUint16(tcp[16:], checksum(pseudo, tcp))

	frame := append(append(make([]byte, 0, ethernetLen+ipv6Len+len(tcp)), s.DstMAC[:]...), s.SrcMAC[:]...)
	const hops = 64
	if s.Src.Addr().Is4() {
		ip := make([]byte, ipv4Len)
		ip[0], ip[8], ip[9] = 0x45, hops, unix.IPPROTO_TCP
		binary.BigEndian.PutUint16(ip[2:], uint16(ipv4Len+len(tcp)))
		copy(ip[12:], src)
		copy(ip[16:], dst)
		binary.BigEndian.PutUint16(ip[10:], checksum(0, ip))
		frame = append(binary.BigEndian.AppendUint16(frame, unix.ETH_P_IP), ip...)
	} else {
		ip := make([]byte, ipv6Len)
		ip[0], ip[6], ip[7] = 0x60, unix.IPPROTO_TCP, hops
		binary.BigEndian.PutUint16(ip[4:], uint16(len(tcp)))
		copy(ip[8:], src)
		copy(ip[24:], dst)
		frame = append(binary.BigEndian.AppendUint16(frame, unix.ETH_P_IPV6), ip...)
	}
	return append(frame, tcp...)
}

// sum adds the 16-bit words of b to a sum.
func sum(to uint64, b []byte) uint64 {
	for ; len(b) > 1; b = b[2:] {
		to += uint64(binary.BigEndian.Uint16(b))
	}
	if len(b) > 0 {
		to += uint64(b[0]) << 8
	}
	return to
}

// checksum returns the Internet checksum of b (RFC 1071) with a sum of what else it covers.
func checksum(of uint64, b []byte) uint16 {
	of = sum(of, b)
	for of > 0xffff {
		of = of>>16 + of&0xffff
	}
	return ^uint16(of)
}
