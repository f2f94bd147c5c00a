package containment

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// tap sees what reaches a backend's namespace when no server is there to count: SYNs, and first bytes of data.
type tap struct {
	fd   int
	port uint16
	done chan struct{}

	mu   sync.Mutex
	seen map[tapped]bool
	at   []time.Time
}

// tapped tells a retransmission from news.
type tapped struct {
	from netip.AddrPort
	seq  uint32
}

// openTap listens in the namespace until close.
func openTap(in *netlab.Namespace, port uint16) (*tap, error) {
	t := &tap{port: port, done: make(chan struct{}), seen: map[tapped]bool{}}
	const ipv4 = unix.ETH_P_IP>>8 | unix.ETH_P_IP&0xff<<8 // in network byte order
	err := in.Do(func() (err error) {
		t.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, ipv4)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen to packets in %s: %w", in.Name(), err)
	}
	tv := unix.NsecToTimeval(int64(50 * time.Millisecond))
	if err := unix.SetsockoptTimeval(t.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		_ = unix.Close(t.fd)
		return nil, fmt.Errorf("listen to packets in %s: %w", in.Name(), err)
	}
	go t.read()
	return t, nil
}

func (t *tap) read() {
	packet := make([]byte, 2048)
	for {
		n, from, err := unix.Recvfrom(t.fd, packet, 0)
		select {
		case <-t.done:
			_ = unix.Close(t.fd)
			return
		default:
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); err != nil || !ok || ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		t.take(packet[:n], time.Now())
	}
}

// take looks at one IPv4 packet.
func (t *tap) take(p []byte, now time.Time) {
	if len(p) < 20 || p[9] != unix.IPPROTO_TCP {
		return
	}
	head := int(p[0]&15) * 4
	if len(p) < head+20 {
		return
	}
	tcp := p[head:]
	if binary.BigEndian.Uint16(tcp[2:]) != t.port {
		return
	}
	const syn, ack = 0x02, 0x10
	payload := int(binary.BigEndian.Uint16(p[2:])) - head - int(tcp[12]>>4)*4
	if tcp[13]&(syn|ack) != syn && payload <= 0 {
		return
	}
	src, _ := netip.AddrFromSlice(p[12:16])
	key := tapped{netip.AddrPortFrom(src, binary.BigEndian.Uint16(tcp)), binary.BigEndian.Uint32(tcp[4:])}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.seen[key] {
		t.seen[key] = true
		t.at = append(t.at, now)
	}
}

// arrivals returns when each came, retransmissions left out.
func (t *tap) arrivals() []time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]time.Time(nil), t.at...)
}

func (t *tap) close() { close(t.done) }
