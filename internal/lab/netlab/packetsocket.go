package netlab

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// packetBuffer is how many bytes of frames, with what the kernel adds to each, may wait to be read from an interface.
const packetBuffer = 64 << 20

// packetSocket reads the frames that an interface receives, and sends others out of it.
type packetSocket struct {
	file *os.File
	fd   int // for getsockopt; the file owns it
}

// openPacketSocket opens one on an interface. It does not read what it has sent itself.
func openPacketSocket(in *Namespace, iface string) (*packetSocket, error) {
	link, err := in.links.LinkByName(iface)
	if err != nil {
		return nil, fmt.Errorf("find %s in %s: %w", iface, in.name, err)
	}
	fd := -1
	err = in.Do(func() (err error) {
		// Protocol 0 receives nothing before bind names the interface.
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open a packet socket in %s: %w", in.name, err)
	}
	s := &packetSocket{file: os.NewFile(uintptr(fd), "packets of "+iface), fd: fd}
	if err := s.bind(link.Attrs().Index); err != nil {
		_ = s.file.Close()
		return nil, fmt.Errorf("bind a packet socket to %s in %s: %w", iface, in.name, err)
	}
	return s, nil
}

func (s *packetSocket) bind(ifindex int) error {
	if err := unix.SetsockoptInt(s.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
		return fmt.Errorf("ignore outgoing packets: %w", err)
	}
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, packetBuffer); err != nil {
		return fmt.Errorf("set the receive buffer: %w", err)
	}
	promiscuous := unix.PacketMreq{Ifindex: int32(ifindex), Type: unix.PACKET_MR_PROMISC}
	if err := unix.SetsockoptPacketMreq(s.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &promiscuous); err != nil {
		return fmt.Errorf("enter promiscuous mode: %w", err)
	}
	const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8 // in network byte order
	return unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifindex})
}

// overruns returns how many frames the kernel has dropped since the last call because its buffer was full.
func (s *packetSocket) overruns() (uint64, error) {
	stats, err := unix.GetsockoptTpacketStats(s.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, fmt.Errorf("read statistics of %s: %w", s.file.Name(), err)
	}
	return uint64(stats.Drops), nil
}
