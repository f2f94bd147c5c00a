package discovery

import (
	"net/netip"
	"strconv"
)

// Target is what one policy names, ranges excepted.
type Target struct {
	Policy    string // unique
	Addresses []netip.AddrPort
	Hosts     []Host
	Services  []Service
}

// Host is a DNS name and the port of the backends behind it.
type Host struct {
	Name string // an IP literal is accepted and never looked up
	Port uint16 // 1..65535
}

// String returns NAME:PORT.
func (h Host) String() string { return h.Name + ":" + strconv.Itoa(int(h.Port)) }

// Service is one port of a Kubernetes Service.
type Service struct {
	Namespace string
	Name      string
	Port      string // a name, or the number of the Service's own port (not the target port)
}

// String returns NAMESPACE/NAME:PORT.
func (s Service) String() string { return s.Namespace + "/" + s.Name + ":" + s.Port }

// number returns the port as a number and true, or 0 and false when it is a name.
func (s Service) number() (int32, bool) {
	n, err := strconv.ParseUint(s.Port, 10, 16)
	return int32(n), err == nil
}
