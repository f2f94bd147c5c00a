package discovery

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Target holds the targets that one policy names, except ranges.
type Target struct {
	Policy    string // unique
	Addresses []netip.AddrPort
	Hosts     []Host
	Services  []Service
}

// each calls f for each source and port that t needs.
func (t Target) each(f func(key sourceKey, port string)) {
	for _, h := range t.Hosts {
		f(sourceKey{KindHost, h.key()}, strconv.Itoa(int(h.Port)))
	}
	for _, s := range t.Services {
		f(sourceKey{KindService, s.Namespace + "/" + s.Name}, s.Port)
	}
}

func (t Target) equal(o Target) bool {
	return t.Policy == o.Policy && slices.Equal(t.Addresses, o.Addresses) &&
		slices.Equal(t.Hosts, o.Hosts) && slices.Equal(t.Services, o.Services)
}

// Host is a DNS name and the port of the backends behind it.
type Host struct {
	Name string // an IP literal is accepted and never looked up
	Port uint16 // 1..65535
}

// String returns NAME:PORT.
func (h Host) String() string { return h.Name + ":" + strconv.Itoa(int(h.Port)) }

// key is the name in lower case: DNS ignores case.
func (h Host) key() string { return strings.ToLower(h.Name) }

// Service is one port of a Kubernetes Service.
type Service struct {
	Namespace string
	Name      string
	Port      string // a name, or the number of the Service's own port (not the target port)
}

// String returns NAMESPACE/NAME:PORT.
func (s Service) String() string { return s.Namespace + "/" + s.Name + ":" + s.Port }
