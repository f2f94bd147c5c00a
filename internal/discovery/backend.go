package discovery

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// Kind is the kind of source of a backend.
type Kind uint8

// Kinds, in order of precedence when one policy finds the same address twice: a service provides the most details.
const (
	KindService Kind = iota
	KindHost
	KindAddress
	KindLearned // seen in the traffic of a range
	kinds       // length
)

var kindNames = [kinds]string{"service", "host", "address", "learned"}

// String returns the name used in status and metrics.
func (k Kind) String() string {
	if k < kinds {
		return kindNames[k]
	}
	return fmt.Sprintf("kind-%d", uint8(k))
}

// Backend is one address that serves requests, with its known properties. It is comparable.
type Backend struct {
	Addr   netip.AddrPort // IPv4 in its 4-byte form, without zone
	Kind   Kind
	Source string // the target that it was found by: the address, HOST:PORT, NAMESPACE/NAME:PORT; for a learned one the range

	// Of services only; empty when not known.
	Namespace   string // of the pod
	Pod         string
	PodUID      string // distinguishes the pod from a later one of the same name
	Node        string
	Zone        string
	Terminating bool // it drains: still serving, but no longer ready; gone when it stops serving
}

// Normalize returns a with a v4-mapped IPv6 address in its IPv4 form and without a zone, so that one backend has
// one spelling.
func Normalize(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// sortBackends orders by address and removes all but the best of each: not terminating before terminating, then by
// Kind, then by Source. It works in place.
func sortBackends(all []Backend) []Backend {
	slices.SortFunc(all, func(a, b Backend) int {
		if c := a.Addr.Compare(b.Addr); c != 0 {
			return c
		}
		if a.Terminating != b.Terminating {
			if a.Terminating {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Pod, b.Pod))
	})
	return slices.CompactFunc(all, func(a, b Backend) bool { return a.Addr == b.Addr })
}
