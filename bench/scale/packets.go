package scale

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/netlab"
)

// port sends made-up packets from one end of a veth pair to the other.
type port struct {
	fd    int
	to    unix.SockaddrLinklayer
	frame []byte
}

// openPort opens the interface eth0 of a namespace.
func openPort(in *netlab.Namespace, gateway net.HardwareAddr) (*port, error) {
	link, err := in.Links().LinkByName("eth0")
	if err != nil {
		return nil, fmt.Errorf("find eth0 in %s: %w", in.Name(), err)
	}
	p := &port{to: unix.SockaddrLinklayer{Ifindex: link.Attrs().Index, Halen: 6, Protocol: ipv4}}
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

func (p *port) close() { _ = unix.Close(p.fd) }

// segment is what matters of a TCP segment.
type segment struct {
	from, to netip.AddrPort
	flags    byte
	seq, ack uint32
	payload  string
}

// TCP flags.
const (
	syn = 0x02
	ack = 0x10
	psh = 0x08
)

// send sends the segment. Its TCP checksum is 0: routers do not look, and it reaches nobody else.
func (p *port) send(s segment) error {
	f := p.frame[:14]
	length := 40 + len(s.payload)
	src, dst := s.from.Addr().As4(), s.to.Addr().As4()
	f = append(f, 0x45, 0, byte(length>>8), byte(length), 0, 0, 0x40, 0, 64, unix.IPPROTO_TCP, 0, 0)
	f = append(f, src[:]...)
	f = append(f, dst[:]...)
	binary.BigEndian.PutUint16(f[24:], checksum(f[14:34]))
	f = binary.BigEndian.AppendUint16(f, s.from.Port())
	f = binary.BigEndian.AppendUint16(f, s.to.Port())
	f = binary.BigEndian.AppendUint32(f, s.seq)
	f = binary.BigEndian.AppendUint32(f, s.ack)
	f = append(f, 5<<4, s.flags, 0xff, 0xff, 0, 0, 0, 0)
	f = append(f, s.payload...)
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

// checksum is that of an IPv4 header.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
