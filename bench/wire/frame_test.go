package wire

import (
	"bytes"
	"net/netip"
	"testing"
)

// The packet is one that a stack accepts.
func TestBytes(t *testing.T) {
	got := Segment{
		From: netip.MustParseAddrPort("192.0.2.1:1024"), To: netip.MustParseAddrPort("198.51.100.2:80"),
		Flags: PSH | ACK, Seq: 1, Ack: 2, Payload: "abc",
	}.Bytes()
	ip, tcp := got[14:34], got[34:]
	// A right checksum makes the sum of all words all ones.
	if f := fold(sum(ip)); f != 0xffff {
		t.Errorf("IP header sums to %#x", f)
	}
	pseudo := sum(ip[12:20]) + 6 + uint32(len(tcp))
	if f := fold(sum(tcp) + pseudo); f != 0xffff {
		t.Errorf("TCP segment sums to %#x", f)
	}
	want := []byte{0x08, 0, 0x45, 0, 0, 43, 0, 0, 0x40, 0, 64, 6}
	if !bytes.Equal(got[12:24], want) {
		t.Errorf("begins with % x, want % x", got[12:24], want)
	}
	if string(tcp[20:]) != "abc" || tcp[13] != PSH|ACK {
		t.Errorf("TCP % x", tcp)
	}
}
