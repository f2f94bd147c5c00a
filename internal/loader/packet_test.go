package loader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// TCP flags.
const (
	fin = 1 << iota
	syn
	rst
	psh
	ack
	urg
	ece
	cwr
)

const (
	etherTypeIPv4 = 0x0800
	etherTypeIPv6 = 0x86dd
	etherTypeVLAN = 0x8100
)

var (
	clientMAC = [6]byte{2, 0, 0, 0, 0, 1}
	nodeMAC   = [6]byte{2, 0, 0, 0, 0, 2}
)

// segment is a TCP segment in all its wrappings.
type segment struct {
	src, dst netip.AddrPort
	seq, ack uint32
	flags    uint8
	options  []byte // of TCP; a multiple of 4
	payload  []byte

	vlans     []uint16 // EtherTypes of tags in the frame, outermost first
	l3        bool     // no link header
	ipOptions []byte   // a multiple of 4
	fragment  uint16   // IPv4: flags and offset
	trailer   int      // bytes after the IP packet, as Ethernet pads
	srcMAC    [6]byte
	dstMAC    [6]byte
}

// sum is the one's complement sum of b in network order.
func sum(b ...[]byte) uint16 {
	var s uint32
	for _, p := range b {
		for i, c := range p {
			if i%2 == 0 {
				s += uint32(c) << 8
			} else {
				s += uint32(c)
			}
		}
	}
	for s > 0xffff {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

func pseudo(src, dst netip.Addr, tcpLen int) []byte {
	b := append(src.AsSlice(), dst.AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(tcpLen))
	return binary.BigEndian.AppendUint32(b, 6)
}

func (s segment) v6() bool { return s.src.Addr().Is6() }

// bytes renders the frame with right checksums.
func (s segment) bytes() []byte {
	var b []byte
	if !s.l3 {
		b = append(append(b, s.dstMAC[:]...), s.srcMAC[:]...)
		for _, tag := range s.vlans {
			b = binary.BigEndian.AppendUint16(b, tag)
			b = binary.BigEndian.AppendUint16(b, 7)
		}
		if s.v6() {
			b = binary.BigEndian.AppendUint16(b, etherTypeIPv6)
		} else {
			b = binary.BigEndian.AppendUint16(b, etherTypeIPv4)
		}
	}
	tcp := make([]byte, 20, 20+len(s.options)+len(s.payload))
	binary.BigEndian.PutUint16(tcp[0:], s.src.Port())
	binary.BigEndian.PutUint16(tcp[2:], s.dst.Port())
	binary.BigEndian.PutUint32(tcp[4:], s.seq)
	binary.BigEndian.PutUint32(tcp[8:], s.ack)
	tcp[12] = byte(20+len(s.options)) / 4 << 4
	tcp[13] = s.flags
	binary.BigEndian.PutUint16(tcp[14:], 64000)
	tcp = append(append(tcp, s.options...), s.payload...)
	binary.BigEndian.PutUint16(tcp[16:], ^sum(pseudo(s.src.Addr(), s.dst.Addr(), len(tcp)), tcp))

	if s.v6() {
		b = append(b, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(len(tcp)))
		b = append(b, 6, 63)
		b = append(append(b, s.src.Addr().AsSlice()...), s.dst.Addr().AsSlice()...)
	} else {
		ip := make([]byte, 20, 60)
		ip[0] = 0x40 | byte(20+len(s.ipOptions))/4
		binary.BigEndian.PutUint16(ip[2:], uint16(20+len(s.ipOptions)+len(tcp)))
		binary.BigEndian.PutUint16(ip[6:], s.fragment)
		ip[8], ip[9] = 63, 6
		copy(ip[12:], s.src.Addr().AsSlice())
		copy(ip[16:], s.dst.Addr().AsSlice())
		ip = append(ip, s.ipOptions...)
		binary.BigEndian.PutUint16(ip[10:], ^sum(ip))
		b = append(b, ip...)
	}
	return append(append(b, tcp...), make([]byte, s.trailer)...)
}

var errNotTCP = errors.New("not TCP")

// parseSegment reads a frame that a program made, and says what is wrong with it: every length and checksum is looked at.
func parseSegment(b []byte, l3 bool) (segment, error) {
	s := segment{l3: l3}
	proto := uint16(0)
	if l3 {
		if len(b) > 0 && b[0]>>4 == 6 {
			proto = etherTypeIPv6
		} else {
			proto = etherTypeIPv4
		}
	} else {
		if len(b) < 14 {
			return s, fmt.Errorf("frame of %d bytes", len(b))
		}
		copy(s.dstMAC[:], b)
		copy(s.srcMAC[:], b[6:])
		proto, b = binary.BigEndian.Uint16(b[12:]), b[14:]
		for proto == etherTypeVLAN || proto == 0x88a8 {
			s.vlans = append(s.vlans, proto)
			proto, b = binary.BigEndian.Uint16(b[2:]), b[4:]
		}
	}
	var src, dst netip.Addr
	switch proto {
	case etherTypeIPv4:
		if len(b) < 20 || b[0] != 0x45 {
			return s, fmt.Errorf("IPv4 header % x", b[:min(len(b), 20)])
		}
		if sum(b[:20]) != 0xffff {
			return s, fmt.Errorf("IPv4 header checksum is wrong: % x", b[:20])
		}
		if total := int(binary.BigEndian.Uint16(b[2:])); total != len(b) {
			return s, fmt.Errorf("IPv4 total length %d of %d bytes", total, len(b))
		}
		if b[9] != 6 {
			return s, fmt.Errorf("IPv4 protocol %d: %w", b[9], errNotTCP)
		}
		src, dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		b = b[20:]
	case etherTypeIPv6:
		if len(b) < 40 || b[0]>>4 != 6 {
			return s, fmt.Errorf("IPv6 header % x", b[:min(len(b), 40)])
		}
		if b[6] != 6 {
			return s, fmt.Errorf("IPv6 next header %d: %w", b[6], errNotTCP)
		}
		if n := int(binary.BigEndian.Uint16(b[4:])); n != len(b)-40 {
			return s, fmt.Errorf("IPv6 payload length %d of %d bytes", n, len(b)-40)
		}
		src, dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		b = b[40:]
	default:
		return s, fmt.Errorf("EtherType %#04x: %w", proto, errNotTCP)
	}
	if len(b) < 20 || int(b[12]>>4)*4 > len(b) || b[12]>>4 < 5 {
		return s, fmt.Errorf("TCP header % x", b[:min(len(b), 20)])
	}
	if sum(pseudo(src, dst, len(b)), b) != 0xffff {
		return s, fmt.Errorf("TCP checksum is wrong: % x", b)
	}
	s.src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(b[0:]))
	s.dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:]))
	s.seq, s.ack = binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
	s.flags = b[13]
	head := int(b[12]>>4) * 4
	s.options, s.payload = b[20:head], b[head:]
	return s, nil
}

// String shows a segment as tcpdump would.
func (s segment) String() string {
	var f strings.Builder
	for i, name := range []string{"F", "S", "R", "P", ".", "U", "E", "C"} {
		if s.flags&(1<<i) != 0 {
			f.WriteString(name)
		}
	}
	return fmt.Sprintf("%s > %s [%s] seq %d ack %d options % x payload %q", s.src, s.dst, &f, s.seq, s.ack, s.options, s.payload)
}

// TCP options.
func mssOption(mss uint16) []byte { return []byte{2, 4, byte(mss >> 8), byte(mss)} }

func timestamps(val, ecr uint32) []byte {
	b := []byte{1, 1, 8, 10}
	b = binary.BigEndian.AppendUint32(b, val)
	return binary.BigEndian.AppendUint32(b, ecr)
}

func netipPort(a netip.AddrPort, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr(), port)
}

func netipAddr(a netip.AddrPort, addr []byte) netip.AddrPort {
	b, _ := netip.AddrFromSlice(addr)
	return netip.AddrPortFrom(b, a.Port())
}
