package netlab

import (
	"encoding/binary"
	"net/netip"
	"reflect"
	"testing"
)

// segments are one of each family.
func segments() map[string]Segment {
	s := Segment{
		SrcMAC: [6]byte{2, 0, 0, 0, 0, 1}, DstMAC: [6]byte{2, 0, 0, 0, 0, 2}, Seq: 0xfffffffe, Ack: 7, Flags: PSH | ACK,
		Window: 500, Options: []byte{1, 1, 1, 0}, Payload: []byte("GET / HTTP/1.1\r\n\r"),
	}
	v4, v6 := s, s
	v4.Src, v4.Dst = netip.MustParseAddrPort("192.0.2.1:40000"), netip.MustParseAddrPort("192.0.2.2:80")
	v6.Src, v6.Dst = netip.MustParseAddrPort("[2001:db8::1]:40000"), netip.MustParseAddrPort("[2001:db8::2]:80")
	return map[string]Segment{"IPv4": v4, "IPv6": v6}
}

// validChecksums reports whether a frame with a TCP segment carries right checksums: what they cover sums up to 0.
func validChecksums(frame []byte) bool {
	s, ok := ParseSegment(frame)
	if !ok {
		return false
	}
	length := tcpLen + len(s.Options) + len(s.Payload)
	end := ethernetLen + ipv6Len + length
	if s.Src.Addr().Is4() {
		ip := frame[ethernetLen:]
		if checksum(0, ip[:int(ip[0]&0xf)*4]) != 0 {
			return false
		}
		end = ethernetLen + int(binary.BigEndian.Uint16(ip[2:]))
	}
	pseudo := sum(0, s.Src.Addr().AsSlice()) + sum(0, s.Dst.Addr().AsSlice()) + 6 + uint64(length)
	return checksum(pseudo, frame[end-length:end]) == 0
}

func TestSegmentIsWhatItsFrameSays(t *testing.T) {
	for name, want := range segments() {
		t.Run(name, func(t *testing.T) {
			frame := want.Frame()
			got, ok := ParseSegment(frame)
			if !ok || !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v (%v), want %+v", got, ok, want)
			}
			if !validChecksums(frame) {
				t.Error("wrong checksums")
			}
			frame[len(frame)-1]++
			if validChecksums(frame) {
				t.Error("a changed payload does not show in the checksums")
			}
			// Short frames are padded at their end.
			if got, ok := ParseSegment(append(want.Frame(), 0, 0)); !ok || !reflect.DeepEqual(got, want) {
				t.Errorf("with padding got %+v (%v)", got, ok)
			}
		})
	}
}

func TestWhatIsNoSegment(t *testing.T) {
	for name, s := range segments() {
		for n := range len(s.Frame()) {
			if _, ok := ParseSegment(s.Frame()[:n]); ok {
				t.Errorf("%s: the first %d bytes are a segment", name, n)
			}
		}
	}
	v4, v6 := segments()["IPv4"], segments()["IPv6"]
	for name, test := range map[string]struct {
		of Segment
		at int
		is byte
	}{
		"ARP": {v4, 13, 6}, "UDP": {v4, 23, 17}, "fragment": {v4, 20, 0x20}, "short IPv4 header": {v4, 14, 0x44},
		"short TCP header": {v4, 46, 0x40}, "long TCP header": {v4, 46, 0xf0}, "IPv6 extension": {v6, 20, 0},
	} {
		frame := test.of.Frame()
		frame[test.at] = test.is
		if _, ok := ParseSegment(frame); ok {
			t.Errorf("%s is a segment", name)
		}
	}
}
