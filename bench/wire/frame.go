package wire

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// Port is one end of a veth pair. It sends made-up TCP segments to the other.
type Port struct {
	fd    int
	to    unix.SockaddrLinklayer
	frame []byte
}

// OpenPort opens the interface eth0 of a namespace. Frames go to the hardware address gateway at its other end.
func OpenPort(in *netlab.Namespace, gateway net.HardwareAddr) (*Port, error) {
	link, err := in.Links().LinkByName("eth0")
	if err != nil {
		return nil, fmt.Errorf("find eth0 in %s: %w", in.Name(), err)
	}
	p := &Port{to: unix.SockaddrLinklayer{Ifindex: link.Attrs().Index, Halen: 6, Protocol: ipv4}}
	copy(p.to.Addr[:], gateway)
	err = in.Do(func() (err error) {
		p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open a packet socket in %s: %w", in.Name(), err)
	}
	p.frame = make([]byte, 0, 256)
	p.frame = append(p.frame, gateway...)
	p.frame = append(p.frame, link.Attrs().HardwareAddr...)
	p.frame = binary.BigEndian.AppendUint16(p.frame, unix.ETH_P_IP)
	return p, nil
}

const ipv4 = unix.ETH_P_IP>>8 | unix.ETH_P_IP&0xff<<8 // in network byte order

// Close closes the port.
func (p *Port) Close() { _ = unix.Close(p.fd) }

// Segment is what matters of a TCP segment over IPv4.
type Segment struct {
	From, To netip.AddrPort
	Flags    byte
	Seq, Ack uint32
	Payload  string
}

// TCP flags.
const (
	SYN = 0x02
	PSH = 0x08
	ACK = 0x10
)

// Send sends the segment.
func (p *Port) Send(s Segment) error {
	f := s.append(p.frame[:headLength])
	for {
		switch err := unix.Sendto(p.fd, f, 0, &p.to); err {
		case nil:
			return nil
		case unix.EINTR, unix.ENOBUFS:
		default:
			return fmt.Errorf("send a packet: %w", err)
		}
	}
}

// headLength is that of an Ethernet header.
const headLength = 14

// Bytes returns the segment as an Ethernet frame without addresses.
func (s Segment) Bytes() []byte {
	f := make([]byte, headLength, 128)
	binary.BigEndian.PutUint16(f[12:], unix.ETH_P_IP)
	return s.append(f)
}

// append adds the IP packet.
func (s Segment) append(f []byte) []byte {
	length := 40 + len(s.Payload)
	src, dst := s.From.Addr().As4(), s.To.Addr().As4()
	f = append(f, 0x45, 0, byte(length>>8), byte(length), 0, 0, 0x40, 0, 64, unix.IPPROTO_TCP, 0, 0)
	f = append(f, src[:]...)
	f = append(f, dst[:]...)
	ip := f[headLength:]
	binary.BigEndian.PutUint16(ip[10:], ^fold(sum(ip)))
	f = binary.BigEndian.AppendUint16(f, s.From.Port())
	f = binary.BigEndian.AppendUint16(f, s.To.Port())
	f = binary.BigEndian.AppendUint32(f, s.Seq)
	f = binary.BigEndian.AppendUint32(f, s.Ack)
	f = append(f, 5<<4, s.Flags, 0xff, 0xff, 0, 0, 0, 0)
	f = append(f, s.Payload...)
	tcp := f[headLength+20:]
	// A rule that rejects answers nobody whose checksum is wrong.
	pseudo := sum(ip[12:20]) + unix.IPPROTO_TCP + uint32(len(tcp))
	binary.BigEndian.PutUint16(tcp[16:], ^fold(sum(tcp)+pseudo))
	return f
}

// sum adds the 16-bit words of b, a byte that is left over with a zero after it.
func sum(b []byte) (n uint32) {
	for ; len(b) > 1; b = b[2:] {
		n += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		n += uint32(b[0]) << 8
	}
	return n
}

// fold makes a one's complement sum of it.
func fold(n uint32) uint16 {
	for n > 0xffff {
		n = n>>16 + n&0xffff
	}
	return uint16(n)
}
