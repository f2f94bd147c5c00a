package policy

import (
	"strings"
	"testing"
)

func TestConflicts(t *testing.T) {
	const already = `belongs, at least in part, to policy "a" already, at p.yaml:2:MINE; a backend may belong to one policy of a direction only`
	for _, test := range []struct {
		what, a, b string
		want       string // "" = no conflict
	}{
		{"same address", "addresses: ['192.0.2.1:80']", "addresses: ['192.0.2.2:80', '192.0.2.1:80']", "3:49: policies[1].match.addresses[1]"},
		{"other port", "addresses: ['192.0.2.1:80']", "addresses: ['192.0.2.1:81']", ""},
		{"IPv4-mapped", "addresses: ['192.0.2.1:80']", "addresses: ['[::ffff:192.0.2.1]:80']", "3:33: policies[1].match.addresses[0]"},
		{"other spelling", "addresses: ['[2001:db8::1]:80']", "addresses: ['[2001:DB8:0::0001]:80']", "3:33: policies[1].match.addresses[0]"},
		{"after a repetition", "addresses: ['192.0.2.9:1', '192.0.2.9:1', '192.0.2.1:80']", "addresses: ['192.0.2.1:80']",
			"3:33: policies[1].match.addresses[0]"},
		{"address in prefix", "cidrs: ['192.0.2.0/24:80']", "addresses: ['192.0.2.1:80']", "3:33: policies[1].match.addresses[0]"},
		{"prefix around address", "addresses: ['192.0.2.1:80']", "cidrs: ['192.0.2.0/24:80']", "3:29: policies[1].match.cidrs[0]"},
		{"address in prefix, other port", "cidrs: ['192.0.2.0/24:80']", "addresses: ['192.0.2.1:81']", ""},
		{"address outside prefix", "cidrs: ['192.0.2.0/24:80']", "addresses: ['192.0.3.1:80']", ""},
		{"same prefix", "cidrs: ['192.0.2.0/24:80']", "cidrs: ['192.0.2.0/24:80']", "3:29: policies[1].match.cidrs[0]"},
		{"prefix in prefix", "cidrs: ['192.0.0.0/16:80']", "cidrs: ['192.0.2.0/24:80']", "3:29: policies[1].match.cidrs[0]"},
		{"prefix around prefix", "cidrs: ['192.0.2.0/24:80']", "cidrs: ['0.0.0.0/0:80']", "3:29: policies[1].match.cidrs[0]"},
		{"prefixes side by side", "cidrs: ['192.0.2.0/25:80']", "cidrs: ['192.0.2.128/25:80']", ""},
		{"IPv6 prefix", "cidrs: ['2001:db8::/32:80']", "addresses: ['[2001:db8::1]:80']", "3:33: policies[1].match.addresses[0]"},
		{"all of IPv6 and one of IPv4", "cidrs: ['::/0:80']", "addresses: ['192.0.2.1:80']", ""},
		{"same host", "hosts: ['a.example:80']", "hosts: ['A.example.:80']", "3:29: policies[1].match.hosts[0]"},
		{"other host", "hosts: ['a.example:80']", "hosts: ['b.example:80']", ""},
		{"same service", "services: ['a/b:80']", "services: ['a/b:080']", "3:32: policies[1].match.services[0]"},
		{"other port of a service", "services: ['a/b:80']", "services: ['a/b:http']", ""},
		{"prefix and address of one policy", "cidrs: ['192.0.2.0/24:80'], addresses: ['192.0.2.1:80']", "hosts: ['a:80']", ""},
		{"other direction", "addresses: ['192.0.2.1:80']", "addresses: ['192.0.2.1:80']}, direction: inbound, limits: {", ""},
		{"prefix of the other direction", "cidrs: ['192.0.2.0/24:80']", "addresses: ['192.0.2.1:80']}, direction: inbound, limits: {", ""},
		{"host and service of the other direction", "hosts: ['a:80'], services: ['a/b:80']",
			"hosts: ['a:80'], services: ['a/b:80']}, direction: inbound, limits: {", ""},
		{"both inbound", "addresses: ['192.0.2.1:80']}, direction: inbound, limits: {",
			"addresses: ['192.0.2.1:80']}, direction: inbound, limits: {", "3:33: policies[1].match.addresses[0]"},
	} {
		text := "policies:\n- {name: a, match: {" + test.a + "}}\n- {name: b, match: {" + test.b + "}}\n"
		_, err := Parse("p.yaml", []byte(text))
		if test.want == "" {
			if err != nil {
				t.Errorf("%s: %v", test.what, err)
			}
			continue
		}
		before, after, _ := strings.Cut(already, "MINE")
		if err == nil || !strings.HasPrefix(err.Error(), "p.yaml:"+test.want+": "+before) || !strings.HasSuffix(err.Error(), after) ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %s", test.what, err, test.want)
		}
	}
}
