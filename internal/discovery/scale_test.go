package discovery

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	scaleServices  = 100
	scaleEndpoints = 100 // of each service, in one slice
)

// scale is a Discovery whose slices come from the test instead of a watch.
type scale struct {
	d       *Discovery
	mirrors []*mirror[*discoveryv1.EndpointSlice, endpointSlice]
	slices  []*discoveryv1.EndpointSlice
	targets []Target
}

func newScale(tb testing.TB) *scale {
	tb.Helper()
	logger := slog.New(slog.DiscardHandler)
	s := &scale{d: New(logger, Options{})}
	tb.Cleanup(func() { s.d.Close() })
	port, name := int32(8080), "http"
	for i := range scaleServices {
		key := sourceKey{KindService, fmt.Sprintf("shop/service-%d", i)}
		m := &mirror[*discoveryv1.EndpointSlice, endpointSlice]{
			logger: logger, keep: keepSlice, same: sameSlice, changed: func() { s.d.changed(key) },
		}
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Name: fmt.Sprintf("slice-%d", i)},
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
		}
		for j := range scaleEndpoints {
			addr := netip.AddrFrom4([4]byte{10, byte(i), 0, byte(j)}).String()
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{addr}})
		}
		if err := m.Replace([]any{slice}, ""); err != nil {
			tb.Fatal(err)
		}
		s.d.sources[key] = &serviceSource{
			namespace: "shop", name: fmt.Sprintf("service-%d", i), slices: m, cancel: func() {}, slicesDone: func() {},
		}
		s.mirrors, s.slices = append(s.mirrors, m), append(s.slices, slice)
		s.targets = append(s.targets, Target{
			Policy: fmt.Sprintf("policy-%d", i), Services: []Service{{"shop", fmt.Sprintf("service-%d", i), "http"}},
		})
	}
	return s
}

// change moves one endpoint of one slice to an address that no endpoint has had.
func (s *scale) change(n int) error {
	i := n % scaleServices
	slice := s.slices[i].DeepCopy()
	slice.Endpoints[n/scaleServices%scaleEndpoints].Addresses[0] = netip.AddrFrom4([4]byte{11, byte(n >> 16), byte(n >> 8), byte(n)}).String()
	s.slices[i] = slice
	return s.mirrors[i].Update(slice)
}

// follow applies updates as the agent does until, after the last change, the assigner knows every endpoint.
func (s *scale) follow(tb testing.TB, a *Assigner, changed <-chan struct{}) (delays []time.Duration) {
	for done := false; ; {
		select {
		case u := <-s.d.Updates():
			for _, set := range u.Sets {
				a.Set(set.Policy, set.Backends)
			}
			delays = append(delays, time.Since(u.Since))
		case <-changed:
			done, changed = true, nil
		case <-time.After(20 * time.Second):
			tb.Error("no update for 20 s")
			return delays
		}
		if done && s.reached(a) {
			return delays
		}
	}
}

func (s *scale) reached(a *Assigner) bool {
	if a.Len() != scaleServices*scaleEndpoints {
		return false
	}
	for i, slice := range s.slices {
		for _, e := range slice.Endpoints {
			owner, ok := a.Owner(netip.AddrPortFrom(netip.MustParseAddr(e.Addresses[0]), 8080))
			if !ok || owner.Policy != s.targets[i].Policy {
				return false
			}
		}
	}
	return true
}

func (s *scale) begin(tb testing.TB) *Assigner {
	tb.Helper()
	var names []string
	for _, t := range s.targets {
		names = append(names, t.Policy)
	}
	a := new(Assigner)
	a.SetPolicies(names)
	s.d.SetPolicies(s.targets)
	all := make(chan struct{})
	close(all)
	s.follow(tb, a, all)
	return a
}

// Changes as fast as they can be made to 100 services of 100 endpoints: all arrive, in few updates.
func TestScaleLosesNoChange(t *testing.T) {
	t.Parallel()
	s := newScale(t)
	a := s.begin(t)
	changed := make(chan struct{})
	const changes = 20_000
	go func() {
		defer close(changed)
		for n := range changes {
			if err := s.change(n); err != nil {
				t.Error(err)
			}
		}
	}()
	delays := s.follow(t, a, changed)
	if len(delays) == 0 || len(delays) > changes/10 {
		t.Errorf("%d changes came in %d updates", changes, len(delays))
	}
}

// BenchmarkSliceChange is the cost of one EndpointSlice change from the watch to the owners of backends, at 10,000
// backends.
func BenchmarkSliceChange(b *testing.B) {
	s := newScale(b)
	a := s.begin(b)
	changed := make(chan struct{})
	b.ResetTimer()
	go func() {
		defer close(changed)
		for n := range b.N {
			s.change(n)
		}
	}()
	s.follow(b, a, changed)
}

// BenchmarkSliceChangesPaced makes 1,000 changes a second; an operation is one second of it. It reports how old the
// oldest change of an update is when the update has been applied.
func BenchmarkSliceChangesPaced(b *testing.B) {
	s := newScale(b)
	a := s.begin(b)
	changed := make(chan struct{})
	b.ResetTimer()
	go func() {
		defer close(changed)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for n := range 1000 * b.N {
			<-tick.C
			s.change(n)
		}
	}()
	delays := s.follow(b, a, changed)
	slices.Sort(delays)
	b.ReportMetric(float64(len(delays))/float64(b.N), "updates/op")
	b.ReportMetric(float64(delays[len(delays)/2].Microseconds())/1000, "ms-median")
	b.ReportMetric(float64(delays[len(delays)-1].Microseconds())/1000, "ms-max")
}
