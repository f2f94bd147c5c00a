package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// serviceSource follows the EndpointSlices of one Service, and the Service itself where a policy names its port by
// number: the number is mapped to the port's name, which is what slices know.
type serviceSource struct {
	namespace, name string
	logger          *slog.Logger
	client          kubernetes.Interface
	ctx             context.Context
	cancel          context.CancelFunc
	changed         func()
	slices          *mirror[*discoveryv1.EndpointSlice, endpointSlice]
	slicesDone      func()

	mu          sync.Mutex
	service     *mirror[*corev1.Service, serviceFacts] // nil unless a target names a port by number
	stopService func()
}

func newServiceSource(ctx context.Context, logger *slog.Logger, client kubernetes.Interface, key string, changed func()) *serviceSource {
	s := &serviceSource{logger: logger, client: client, changed: changed}
	s.namespace, s.name, _ = strings.Cut(key, "/")
	s.ctx, s.cancel = context.WithCancel(ctx)
	api := client.DiscoveryV1().EndpointSlices(s.namespace)
	s.slices, s.slicesDone = mirrorObjects(s.ctx, logger, listWatch[*discoveryv1.EndpointSliceList]{
		what:     "EndpointSlices of " + key,
		grant:    "a ClusterRole must grant get, list and watch on endpointslices of discovery.k8s.io",
		selector: func(o *metav1.ListOptions) { o.LabelSelector = discoveryv1.LabelServiceName + "=" + s.name },
		list:     api.List,
		watch:    api.Watch,
	}, &discoveryv1.EndpointSlice{}, keepSlice, sameSlice, changed)
	return s
}

// needs starts or ends the watch of the Service.
func (s *serviceSource) needs(ports []string) {
	numbered := slices.ContainsFunc(ports, func(p string) bool { _, ok := portNumber(p); return ok })
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case numbered && s.service == nil:
		ctx, cancel := context.WithCancel(s.ctx)
		api := s.client.CoreV1().Services(s.namespace)
		service, wait := mirrorObjects(ctx, s.logger, listWatch[*corev1.ServiceList]{
			what:     "Service " + s.namespace + "/" + s.name,
			grant:    "a ClusterRole must grant get, list and watch on services",
			selector: func(o *metav1.ListOptions) { o.FieldSelector = "metadata.name=" + s.name },
			list:     api.List,
			watch:    api.Watch,
		}, &corev1.Service{}, keepService, sameService, s.changed)
		s.service, s.stopService = service, func() { cancel(); wait() }
	case !numbered && s.service != nil:
		go s.stopService() // it may wait in changed for a lock that the caller holds
		s.service, s.stopService = nil, nil
	}
}

func (s *serviceSource) answer(port string) answer {
	all, answered, err := s.slices.snapshot()
	got := answer{answered: answered, err: err}
	name := port
	if _, numbered := portNumber(port); numbered {
		var known bool
		if name, known = s.portName(port, &got); !known {
			return got
		}
	}
	source := s.namespace + "/" + s.name + ":" + port
	names, endpoints := map[string]bool{}, 0
	for _, slice := range all {
		endpoints += len(slice.endpoints)
		for _, p := range slice.ports {
			names[p.name] = true
			if p.name != name {
				continue
			}
			for _, e := range slice.endpoints {
				got.backends = append(got.backends, Backend{
					Addr: netip.AddrPortFrom(e.addr, p.port), Kind: KindService, Source: source,
					Namespace: e.namespace, Pod: e.pod, PodUID: e.podUID, Node: e.node, Zone: e.zone, Terminating: e.terminating,
				})
			}
		}
	}
	switch {
	case !got.answered || got.err != nil:
	case len(all) == 0:
		got.err = fmt.Errorf("service %s/%s has no EndpointSlice: it does not exist, or nothing makes slices for it", s.namespace, s.name)
	case endpoints > 0 && !names[name]:
		got.err = fmt.Errorf("service %s: no TCP port has this name, its endpoints have %s", source, quoteAll(names))
	}
	return got
}

// portName returns the name of a Service's port by its number. If it cannot, it sets the answer's error and returns false.
func (s *serviceSource) portName(port string, got *answer) (name string, known bool) {
	s.mu.Lock()
	service := s.service
	s.mu.Unlock()
	if service == nil { // needs has not been called yet, or the port is not needed any more
		got.answered = false
		return "", false
	}
	found, answered, err := service.snapshot()
	got.answered = got.answered && answered
	got.err = errors.Join(got.err, err)
	if !answered {
		return "", false
	}
	facts, exists := found[s.name]
	number, _ := portNumber(port)
	var numbers []string
	for _, p := range facts.ports {
		if p.port == number {
			return p.name, true
		}
		numbers = append(numbers, strconv.Itoa(int(p.port)))
	}
	if slices.ContainsFunc(facts.ports, func(p servicePort) bool { return p.name == port }) {
		return port, true
	}
	if got.err == nil {
		what := "service " + s.namespace + "/" + s.name
		switch {
		case !exists:
			got.err = fmt.Errorf("%s does not exist", what)
		case facts.externalName != "":
			got.err = fmt.Errorf("%s is an external name and has no endpoints: use hosts with %s", what, facts.externalName)
		default:
			got.err = fmt.Errorf("%s has no TCP port %s, its ports are %s", what, port, strings.Join(numbers, ", "))
		}
	}
	return "", false
}

func (s *serviceSource) status() SourceStatus {
	st := s.slices.status()
	all, _, _ := s.slices.snapshot()
	for _, slice := range all {
		st.Answers += len(slice.endpoints)
	}
	s.mu.Lock()
	service := s.service
	s.mu.Unlock()
	if service == nil {
		return st
	}
	other := service.status()
	st.Answered = st.Answered && other.Answered
	st.Stale = st.Stale || other.Stale
	st.Successes += other.Successes
	st.Failures += other.Failures
	if other.LastFailure.After(st.LastFailure) {
		st.LastFailure = other.LastFailure
	}
	if st.LastError == "" {
		st.LastError = other.LastError
	}
	return st
}

func (s *serviceSource) close() {
	s.cancel()
	s.slicesDone()
	s.mu.Lock()
	stop := s.stopService
	s.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// unavailable is a service without a configured API.
type unavailable struct{ err error }

func (u unavailable) answer(string) answer { return answer{err: u.err} }
func (u unavailable) status() SourceStatus { return SourceStatus{LastError: u.err.Error()} }
func (u unavailable) needs([]string)       {}
func (u unavailable) close()               {}

func portNumber(port string) (uint16, bool) {
	n, err := strconv.ParseUint(port, 10, 16)
	return uint16(n), err == nil
}

func quoteAll(names map[string]bool) string {
	all := make([]string, 0, len(names))
	for n := range names {
		all = append(all, strconv.Quote(n))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}
