package netlab

import (
	"errors"
	"fmt"
)

// Relay is a link between two namespaces, on which this process carries each frame: it can lose, duplicate, reorder and
// delay them, in either direction by itself. The interfaces at both ends have no offloads, so a frame is one packet, no
// longer than the MTU, with its checksums. VLAN tags are lost.
type Relay struct {
	Forward, Backward *Direction // from the first end to the second, and back

	sockets [2]*packetSocket
}

// Relay connects two namespaces by a pair of veth pairs whose other ends are in a namespace of their own, and returns when
// packets can pass. As with Veth each end knows the other's addresses as permanent neighbours. Frames are carried until
// the lab is closed. The seed is that of the random impairment, of which there is none yet.
func (l *Lab) Relay(a, b End, seed uint64) (*Relay, error) {
	between, err := l.Namespace("relay")
	if err != nil {
		return nil, err
	}
	// Nothing in it is to send packets of its own.
	if err := between.Sysctl("net.ipv6.conf.default.disable_ipv6", "1"); err != nil {
		return nil, err
	}
	r := &Relay{}
	for i, end := range []End{a, b} {
		near := End{In: between, Interface: fmt.Sprintf("port%d", i)}
		if err := l.plug(end, near); err != nil {
			return nil, err
		}
		err := errors.Join(end.In.NoOffloads(end.Interface), near.In.NoOffloads(near.Interface))
		if err != nil {
			return nil, err
		}
		if r.sockets[i], err = openPacketSocket(between, near.Interface); err != nil {
			return nil, err
		}
		l.open = append(l.open, r.sockets[i].file)
	}
	for i, d := range []**Direction{&r.Forward, &r.Backward} {
		from, to := r.sockets[i], r.sockets[1-i]
		*d = newDirection(seed, uint64(i), func(frame []byte) error {
			_, err := to.file.Write(frame)
			return err
		})
		l.carrying.Go(func() { (*d).carryFrom(from) })
	}
	return r, errors.Join(a.introduce(b), b.introduce(a))
}

// carryFrom takes frames from a socket until it is closed.
func (d *Direction) carryFrom(s *packetSocket) {
	defer d.close()
	frame := make([]byte, 1<<16)
	for {
		n, err := s.file.Read(frame)
		if err != nil {
			return
		}
		d.arrive(frame[:n])
	}
}

// Overruns returns how many frames were lost since the last call because this process did not keep up with them.
func (r *Relay) Overruns() (uint64, error) {
	var all uint64
	for _, s := range r.sockets {
		n, err := s.overruns()
		if err != nil {
			return 0, err
		}
		all += n
	}
	return all, nil
}
