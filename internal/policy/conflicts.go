package policy

import (
	"fmt"
	"net/netip"
	"slices"
)

// conflicts reports names that are used twice, and backends that can be known to belong to two policies of one
// direction. Calls in one direction are none of the other's business.
func conflicts(policies []*scoped) Errors {
	directions := map[Direction]*claims{Outbound: newClaims(), Inbound: newClaims()}
	names := map[string]*scoped{}
	var errs Errors
	for _, p := range policies {
		c := directions[p.Direction]
		if first, twice := names[p.Name]; twice && p.given("name") {
			c.fail(claim{p, "name"}, "%q is the name of another policy, at %s", p.Name, first.position(first.at("name").node))
		} else {
			names[p.Name] = p
		}
		c.add(p)
	}
	for direction, c := range directions {
		c.overlaps(slices.DeleteFunc(slices.Clone(policies), func(p *scoped) bool { return p.Direction != direction }))
		errs = append(errs, c.errs...)
	}
	return errs
}

// claim is an entry in the match of a policy.
type claim struct {
	by   *scoped
	path string
}

// claimOf is the i-th target of a list of p's match.
func claimOf(p *scoped, path string, i int) claim {
	return claim{p, fmt.Sprintf("%s[%d]", path, p.entryOf[path][i])}
}

func (c claim) position() Position { return c.by.position(c.by.at(c.path).node) }

type lengthKey struct {
	ipv4 bool
	bits int
}

// claims are what is matched by the policies of one direction so far.
type claims struct {
	addresses map[netip.AddrPort]claim
	cidrs     map[CIDR]claim
	hosts     map[Host]claim
	services  map[Service]claim
	lengths   map[lengthKey]bool // of the prefixes in cidrs
	errs      Errors
}

func newClaims() *claims {
	return &claims{
		addresses: map[netip.AddrPort]claim{}, cidrs: map[CIDR]claim{},
		hosts: map[Host]claim{}, services: map[Service]claim{},
		lengths: map[lengthKey]bool{},
	}
}

func (c *claims) fail(at claim, format string, args ...any) {
	c.errs = append(c.errs, &Error{
		Position: at.position(),
		Path:     at.by.at(at.path).path,
		Message:  fmt.Sprintf(format, args...),
	})
}

func (c *claims) add(p *scoped) {
	take(c, c.addresses, p, "match.addresses", p.Match.Addresses)
	take(c, c.cidrs, p, "match.cidrs", p.Match.CIDRs)
	take(c, c.hosts, p, "match.hosts", p.Match.Hosts)
	take(c, c.services, p, "match.services", p.Match.Services)
	for _, cidr := range p.Match.CIDRs {
		c.lengths[lengthKey{cidr.Prefix.Addr().Is4(), cidr.Prefix.Bits()}] = true
	}
}

// take notes the targets of a policy, and reports those that another one has.
func take[T comparable](c *claims, taken map[T]claim, p *scoped, path string, targets []T) {
	for i, target := range targets {
		mine := claimOf(p, path, i)
		if first, ok := taken[target]; ok && first.by != p {
			c.belongs(mine, first)
			continue
		}
		taken[target] = mine
	}
}

// overlaps reports addresses and prefixes inside a prefix of another policy.
func (c *claims) overlaps(policies []*scoped) {
	for _, p := range policies {
		for i, address := range p.Match.Addresses {
			host := netip.PrefixFrom(address.Addr(), address.Addr().BitLen())
			c.inside(claimOf(p, "match.addresses", i), host, address.Port(), host.Bits())
		}
		for i, cidr := range p.Match.CIDRs {
			c.inside(claimOf(p, "match.cidrs", i), cidr.Prefix, cidr.Port, cidr.Prefix.Bits()-1)
		}
	}
}

// inside reports a prefix that lies in one of another policy which has at most so many bits.
func (c *claims) inside(mine claim, prefix netip.Prefix, port uint16, most int) {
	for bits := most; bits >= 0; bits-- {
		if !c.lengths[lengthKey{prefix.Addr().Is4(), bits}] {
			continue
		}
		around := CIDR{Prefix: netip.PrefixFrom(prefix.Addr(), bits).Masked(), Port: port}
		if other, ok := c.cidrs[around]; ok && other.by != mine.by {
			if other.position().compare(mine.position()) > 0 {
				mine, other = other, mine
			}
			c.belongs(mine, other)
			return
		}
	}
}

func (c *claims) belongs(mine, first claim) {
	c.fail(mine, "belongs, at least in part, to policy %q already, at %s; a backend may belong to one policy of a direction only",
		first.by.Name, first.position())
}
