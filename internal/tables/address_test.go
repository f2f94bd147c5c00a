package tables

import (
	"net/netip"
	"testing"
)

func TestAddressesOfThePrograms(t *testing.T) {
	for _, s := range []string{"192.0.2.1:80", "[2001:db8::1]:443", "[::1]:65535"} {
		b := Backend{Addr: netip.MustParseAddrPort(s), Direction: Inbound}
		if got := backendOf(endpoint(b)); got != b {
			t.Errorf("%+v is read back as %+v", b, got)
		}
	}
	b := Backend{Addr: netip.MustParseAddrPort("[::ffff:192.0.2.1]:80")}
	if got := endpoint(b); got != endpoint(Backend{Addr: netip.MustParseAddrPort("192.0.2.1:80")}) {
		t.Errorf("an IPv4 address as IPv6 is another endpoint: %+v", got)
	}
	for prefix, bits := range map[string]uint32{"0.0.0.0/0": 96, "192.0.2.0/24": 120, "2001:db8::/32": 32, "::/0": 0} {
		if got := bits16(netip.MustParsePrefix(prefix)); got != bits {
			t.Errorf("%s has %d bits, want %d", prefix, got, bits)
		}
	}
}
