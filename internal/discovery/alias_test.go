package discovery

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// An answer is valid for the shortest TTL on the way to the addresses, whichever record has it, and whether the server or
// the resolver follows the aliases.
func TestTTLOfAliases(t *testing.T) {
	for name, c := range map[string]struct {
		records []string
		want    time.Duration
	}{
		"the address":                     {[]string{"www.example. 300 IN CNAME a.example.", "a.example. 20 IN A 192.0.2.1"}, 20 * time.Second},
		"the alias":                       {[]string{"www.example. 20 IN CNAME a.example.", "a.example. 300 IN A 192.0.2.1"}, 20 * time.Second},
		"the second of two aliases":       {[]string{"www.example. 300 IN CNAME b.example.", "b.example. 20 IN CNAME a.example.", "a.example. 300 IN A 192.0.2.1"}, 20 * time.Second},
		"the alias, asked for separately": {[]string{"www.example. 20 IN CNAME elsewhere.example.", "elsewhere.example. 300 IN A 192.0.2.1"}, 20 * time.Second},
		"the address, asked for separately": {
			[]string{"www.example. 300 IN CNAME elsewhere.example.", "elsewhere.example. 20 IN A 192.0.2.1"}, 20 * time.Second},
		"one of two addresses": {
			[]string{"www.example. 300 IN CNAME a.example.", "a.example. 300 IN A 192.0.2.1", "a.example. 20 IN A 192.0.2.1"}, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			server := startDNS(t, freeAddr())
			server.set(t, c.records...)
			conf := &dns.ClientConfig{Servers: []string{server.addr}, Port: "53", Timeout: 5, Attempts: 2}
			got := resolve(context.Background(), conf, "www.example.", dns.TypeA)
			if got.err != nil || got.ttl != c.want || !slices.Equal(got.addrs, []netip.Addr{netip.MustParseAddr("192.0.2.1")}) {
				t.Errorf("%+v, want a TTL of %s", got, c.want)
			}
		})
	}
}

// That a name has no address holds for no longer than the alias that leads to it.
func TestTTLOfAliasWithoutAddress(t *testing.T) {
	server := startDNS(t, freeAddr())
	server.set(t, "www.example. 20 IN CNAME elsewhere.example.", "elsewhere.example. 300 IN AAAA 2001:db8::1")
	server.change(func(s *dnsServer) { s.soa = "example. 3600 IN SOA ns.example. root.example. 1 7200 900 1209600 3600" })
	conf := &dns.ClientConfig{Servers: []string{server.addr}, Port: "53", Timeout: 5, Attempts: 2}
	got := resolve(context.Background(), conf, "www.example.", dns.TypeA)
	if got.err != nil || len(got.addrs) > 0 || got.ttl != 20*time.Second {
		t.Errorf("%+v, want no address and a TTL of 20s", got)
	}
}
