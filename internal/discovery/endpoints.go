package discovery

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// endpointSlice holds the relevant parts of an EndpointSlice.
type endpointSlice struct {
	ports     []servicePort
	endpoints []endpoint
}

// servicePort is a TCP port with the name that ties a Service's port to that of its endpoints.
type servicePort struct {
	name string
	port uint16
}

type endpoint struct {
	addr        netip.Addr
	terminating bool
	namespace   string
	pod         string
	podUID      string
	node        string
	zone        string
}

// keepSlice reads an EndpointSlice. Of its endpoints it keeps
//
//   - the ready ones,
//   - and those that terminate but still serve: connections that are open go on there, and kube-proxy itself falls back
//     to them when none is ready.
//
// One that is neither is no backend: Kubernetes has taken it out already. Of an endpoint's addresses the first counts,
// as for kube-proxy; FQDN slices and ports that are not TCP are left out.
func keepSlice(s *discoveryv1.EndpointSlice) endpointSlice {
	var kept endpointSlice
	if s.AddressType == discoveryv1.AddressTypeFQDN {
		return kept
	}
	for _, p := range s.Ports {
		if p.Port != nil && value(p.Protocol, corev1.ProtocolTCP) == corev1.ProtocolTCP {
			kept.ports = append(kept.ports, servicePort{value(p.Name, ""), uint16(*p.Port)})
		}
	}
	for _, e := range s.Endpoints {
		terminating := value(e.Conditions.Terminating, false)
		ready := value(e.Conditions.Ready, true)
		serving := value(e.Conditions.Serving, ready)
		if len(e.Addresses) == 0 || !ready && !(terminating && serving) {
			continue
		}
		addr, err := netip.ParseAddr(e.Addresses[0])
		if err != nil {
			continue
		}
		k := endpoint{addr: addr.Unmap().WithZone(""), terminating: terminating, node: value(e.NodeName, ""), zone: value(e.Zone, "")}
		if ref := e.TargetRef; ref != nil && ref.Kind == "Pod" {
			k.namespace, k.pod, k.podUID = ref.Namespace, ref.Name, string(ref.UID)
		}
		kept.endpoints = append(kept.endpoints, k)
	}
	return kept
}

func sameSlice(a, b endpointSlice) bool {
	return slices.Equal(a.ports, b.ports) && slices.Equal(a.endpoints, b.endpoints)
}

// serviceFacts holds the relevant parts of a Service.
type serviceFacts struct {
	ports        []servicePort // the Service's own ports, not the target ports
	externalName string
}

func keepService(s *corev1.Service) serviceFacts {
	var kept serviceFacts
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		kept.externalName = s.Spec.ExternalName
	}
	for _, p := range s.Spec.Ports {
		if p.Protocol == corev1.ProtocolTCP || p.Protocol == "" {
			kept.ports = append(kept.ports, servicePort{p.Name, uint16(p.Port)})
		}
	}
	return kept
}

func sameService(a, b serviceFacts) bool {
	return a.externalName == b.externalName && slices.Equal(a.ports, b.ports)
}

func value[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
