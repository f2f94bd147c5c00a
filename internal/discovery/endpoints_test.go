package discovery

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Every combination of conditions, absent ones included: an API server of an older release leaves serving out.
func TestKeepSliceConditions(t *testing.T) {
	yes, no := true, false
	for _, row := range []struct {
		ready, serving, terminating *bool
		kept, draining              bool
	}{
		{nil, nil, nil, true, false},
		{&yes, nil, nil, true, false},
		{&yes, &yes, &no, true, false},
		{&yes, &yes, &yes, true, true}, // publishNotReadyAddresses
		{&no, nil, nil, false, false},
		{&no, &no, &no, false, false},
		{&no, &yes, &no, false, false},
		{&no, &yes, &yes, true, true},
		{&no, &no, &yes, false, false},
		{&no, nil, &yes, false, false},
		{nil, nil, &yes, true, true},
	} {
		name := fmt.Sprintf("ready %v, serving %v, terminating %v", show(row.ready), show(row.serving), show(row.terminating))
		t.Run(name, func(t *testing.T) {
			kept := keepSlice(&discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{
				Addresses: []string{"10.0.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: row.ready, Serving: row.serving, Terminating: row.terminating},
			}}})
			if got := len(kept.endpoints) == 1; got != row.kept {
				t.Fatalf("kept %v, want %v", got, row.kept)
			}
			if row.kept && kept.endpoints[0].terminating != row.draining {
				t.Fatalf("terminating %v, want %v", kept.endpoints[0].terminating, row.draining)
			}
		})
	}
}

func show(b *bool) string {
	if b == nil {
		return "absent"
	}
	return fmt.Sprint(*b)
}

func TestKeepSliceLeavesOut(t *testing.T) {
	udp, port := corev1.ProtocolUDP, int32(53)
	kept := keepSlice(&discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4,
		Ports:     []discoveryv1.EndpointPort{{Protocol: &udp, Port: &port}, {}, {Port: &port}},
		Endpoints: []discoveryv1.Endpoint{{}, {Addresses: []string{"not an address"}}, {Addresses: []string{"10.0.0.1", "10.0.0.2"}}},
	})
	if len(kept.ports) != 1 || kept.ports[0] != (servicePort{"", 53}) {
		t.Errorf("ports %+v", kept.ports)
	}
	if len(kept.endpoints) != 1 || kept.endpoints[0].addr.String() != "10.0.0.1" {
		t.Errorf("endpoints %+v", kept.endpoints)
	}
	if kept := keepSlice(&discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeFQDN, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}}}}); len(kept.endpoints) != 0 {
		t.Errorf("of an FQDN slice: %+v", kept.endpoints)
	}
}
