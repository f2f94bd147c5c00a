//go:build kube

package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cbagent/cbagent/test/k8s/controlplane"
)

// cluster is a real API with the rights that are shipped, and two clients: one that may do everything, and one that is
// the agent.
type cluster struct {
	t     *testing.T
	plane *controlplane.ControlPlane
	admin kubernetes.Interface
	agent kubernetes.Interface
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, plane: controlplane.ForTest(t)}
	if _, err := c.plane.Kubectl(t.Context(), "apply", "-f", "../../deploy/daemonset.yaml"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.plane.Kubectl(t.Context(), "create", "namespace", "shop"); err != nil {
		t.Fatal(err)
	}
	agent, err := c.plane.Kubeconfig("agent", "system:serviceaccount:cbagent:cbagent")
	if err != nil {
		t.Fatal(err)
	}
	if c.agent, err = NewKubeClient(agent, "cbagent/test"); err != nil {
		t.Fatal(err)
	}
	if c.admin, err = NewKubeClient(c.plane.AdminKubeconfig(), "test"); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// service makes a Service without a selector: only the test makes slices for it.
func (c *cluster) service(name string, ports ...corev1.ServicePort) *corev1.Service {
	c.t.Helper()
	made, err := c.admin.CoreV1().Services("shop").Create(c.t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Ports: ports},
	}, metav1.CreateOptions{})
	c.must(err)
	return made
}

// slice makes or replaces an EndpointSlice.
func (c *cluster) slice(s *discoveryv1.EndpointSlice) {
	c.t.Helper()
	api := c.admin.DiscoveryV1().EndpointSlices("shop")
	_, err := api.Update(c.t.Context(), s, metav1.UpdateOptions{})
	if err != nil {
		_, err = api.Create(c.t.Context(), s, metav1.CreateOptions{})
	}
	c.must(err)
}

func slice(name, service string, ports []discoveryv1.EndpointPort, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Namespace: "shop", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: ports, Endpoints: endpoints,
	}
	if len(endpoints) > 0 && netip.MustParseAddr(endpoints[0].Addresses[0]).Is6() {
		s.AddressType = discoveryv1.AddressTypeIPv6
	}
	return s
}

func endpointAt(addr string, ready, serving, terminating bool) discoveryv1.Endpoint {
	node, zone := "node-1", "zone-a"
	return discoveryv1.Endpoint{
		Addresses:  []string{addr},
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		NodeName:   &node, Zone: &zone,
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: "pod-" + strings.NewReplacer(".", "-", ":", "-").Replace(addr)},
	}
}

func tcpPort(name string, port int32) discoveryv1.EndpointPort {
	tcp := corev1.ProtocolTCP
	return discoveryv1.EndpointPort{Name: &name, Port: &port, Protocol: &tcp}
}

func udpPort(name string, port int32) discoveryv1.EndpointPort {
	udp := corev1.ProtocolUDP
	return discoveryv1.EndpointPort{Name: &name, Port: &port, Protocol: &udp}
}

func services(policy string, names ...string) Target {
	t := Target{Policy: policy}
	for _, s := range names {
		name, port, _ := strings.Cut(s, ":")
		t.Services = append(t.Services, Service{Namespace: "shop", Name: name, Port: port})
	}
	return t
}

func (f *follower) errorHas(policy, text string) func() bool {
	return func() bool {
		s, ok := f.sets[policy]
		return ok && s.Err != nil && strings.Contains(s.Err.Error(), text)
	}
}

func TestKubeServices(t *testing.T) {
	c := newCluster(t)
	up := func(addr string) discoveryv1.Endpoint { return endpointAt(addr, true, true, false) }
	ports := []discoveryv1.EndpointPort{tcpPort("http", 8080), tcpPort("admin", 9090), udpPort("dns", 53)}

	t.Run("named and numbered ports, two slices, two families", func(t *testing.T) {
		c.service("orders", corev1.ServicePort{Name: "http", Port: 80}, corev1.ServicePort{Name: "admin", Port: 9000})
		c.slice(slice("orders-1", "orders", ports, up("10.1.0.1"), up("10.1.0.2")))
		c.slice(slice("orders-2", "orders", ports, up("10.1.0.3")))
		c.slice(slice("orders-6", "orders", ports, up("2001:db8::1")))
		c.slice(slice("other-1", "other", ports, up("10.1.9.9")))
		f := startFollower(t, Options{Kube: c.agent}, services("named", "orders:http"), services("numbered", "orders:9000"), services("unknown", "orders:grpc"), services("nonumber", "orders:81"))
		f.until("the named port", f.has("named", "10.1.0.1:8080", "10.1.0.2:8080", "10.1.0.3:8080", "[2001:db8::1]:8080"))
		f.until("the numbered port", f.has("numbered", "10.1.0.1:9090", "10.1.0.2:9090", "10.1.0.3:9090", "[2001:db8::1]:9090"))
		f.until("the unknown name", f.errorHas("unknown", `have "admin", "http"`))
		f.until("the unknown number", f.errorHas("nonumber", "its ports are 80, 9000"))
		want := Backend{Addr: addr("10.1.0.1:8080"), Kind: KindService, Source: "shop/orders:http", Namespace: "shop", Pod: "pod-10-1-0-1", Node: "node-1", Zone: "zone-a"}
		if got := f.sets["named"].Backends[0]; got != want {
			t.Errorf("backend %+v, want %+v", got, want)
		}
		if s := f.sets["named"]; !s.Complete || s.Err != nil {
			t.Errorf("complete %v, error %v", s.Complete, s.Err)
		}
		c.slice(slice("orders-2", "orders", ports))
		c.slice(slice("orders-1", "orders", ports, up("10.1.0.2"), up("10.1.0.4")))
		f.until("the change", f.has("named", "10.1.0.2:8080", "10.1.0.4:8080", "[2001:db8::1]:8080"))
		if err := c.admin.DiscoveryV1().EndpointSlices("shop").Delete(t.Context(), "orders-1", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		f.until("a slice is gone", f.has("named", "[2001:db8::1]:8080"))
		st := f.status("shop/orders")
		if st.Answers != 1 || !slices.Equal(st.Policies, []string{"named", "numbered", "unknown", "nonumber"}) || st.Stale {
			t.Errorf("status %+v", st)
		}
	})

	t.Run("readiness and termination", func(t *testing.T) {
		c.slice(slice("drain-1", "drain", ports,
			endpointAt("10.2.0.1", true, true, false),   // ready
			endpointAt("10.2.0.2", false, false, false), // not ready yet, or no more
			endpointAt("10.2.0.3", false, true, true),   // drains
			endpointAt("10.2.0.4", false, false, true))) // drained
		f := startFollower(t, Options{Kube: c.agent}, services("drain", "drain:http"))
		f.until("the ready and the draining one", f.has("drain", "10.2.0.1:8080", "10.2.0.3:8080"))
		for i, terminating := range []bool{false, true} {
			if got := f.sets["drain"].Backends[i]; got.Terminating != terminating {
				t.Errorf("%v: terminating %v", got.Addr, got.Terminating)
			}
		}
		c.slice(slice("drain-1", "drain", ports, endpointAt("10.2.0.1", true, true, false),
			endpointAt("10.2.0.2", true, true, false), endpointAt("10.2.0.3", false, false, true)))
		f.until("one has become ready, one has drained", f.has("drain", "10.2.0.1:8080", "10.2.0.2:8080"))
	})

	t.Run("a service that appears", func(t *testing.T) {
		f := startFollower(t, Options{Kube: c.agent}, services("late", "late:80"))
		f.until("the error", f.errorHas("late", "shop/late does not exist"))
		if !f.sets["late"].Complete {
			t.Error("that it does not exist is an answer, but the set is not complete")
		}
		c.service("late", corev1.ServicePort{Port: 80})
		c.slice(slice("late-1", "late", []discoveryv1.EndpointPort{tcpPort("", 8000)}, up("10.3.0.1")))
		f.until("its backend, by a port without a name", f.has("late", "10.3.0.1:8000"))
		f.until("no error", func() bool { return f.sets["late"].Err == nil })
	})

	t.Run("a reload keeps what stays", func(t *testing.T) {
		c.slice(slice("stay-1", "stay", ports, up("10.4.0.1")))
		c.slice(slice("next-1", "next", ports, up("10.4.0.1"), up("10.4.0.2")))
		f := startFollower(t, Options{Kube: c.agent}, services("p", "stay:http"))
		f.until("the first", f.has("p", "10.4.0.1:8080"))
		begun := f.status("shop/stay").Successes
		f.d.SetPolicies([]Target{services("p", "next:http"), services("q", "stay:admin")})
		f.until("the second", f.has("p", "10.4.0.1:8080", "10.4.0.2:8080"))
		f.until("the other policy", f.has("q", "10.4.0.1:9090"))
		for _, u := range f.updates {
			for _, s := range u.Sets {
				if s.Policy == "p" && s.Complete && !slices.ContainsFunc(s.Backends, func(b Backend) bool { return b.Addr == addr("10.4.0.1:8080") }) {
					t.Errorf("a backend that stays was away for a moment: %+v", s)
				}
			}
		}
		if now := f.status("shop/stay").Successes; now != begun {
			t.Errorf("the watch of a service that stays was begun again: %d, then %d", begun, now)
		}
	})

	t.Run("a service's own address", func(t *testing.T) {
		s := c.service("vip", corev1.ServicePort{Port: 80})
		vip := netip.MustParseAddr(s.Spec.ClusterIP)
		known, err := ListServiceAddresses(t.Context(), c.agent)
		c.must(err)
		if err := known.Check(netip.AddrPortFrom(vip, 80)); err == nil || !strings.Contains(err.Error(), `use services: ["shop/vip:80"]`) {
			t.Errorf("check of %v says %v", vip, err)
		}
		if err := known.Check(addr("10.1.0.1:80")); err != nil {
			t.Errorf("check of a pod says %v", err)
		}
		f := startFollower(t, Options{Kube: c.agent}, Target{Policy: "p", Addresses: []netip.AddrPort{netip.AddrPortFrom(vip, 80)}})
		f.until("the error", f.errorHas("p", "shop/vip"))
	})

	t.Run("many changes", func(t *testing.T) {
		const rounds = 200
		f := startFollower(t, Options{Kube: c.agent}, services("churn", "churn:http"))
		var changing sync.WaitGroup
		changing.Go(func() {
			for i := range rounds {
				c.slice(slice("churn-1", "churn", ports, up(fmt.Sprintf("10.5.%d.1", i)), up("10.5.255.1")))
			}
		})
		f.until("the last of them", f.has("churn", fmt.Sprintf("10.5.%d.1:8080", rounds-1), "10.5.255.1:8080"))
		changing.Wait() // the follower may have the last one before its request has returned
	})
}

func TestKubeAPIGoesAndComesBack(t *testing.T) {
	c := newCluster(t)
	ports := []discoveryv1.EndpointPort{tcpPort("http", 8080)}
	c.service("orders", corev1.ServicePort{Name: "http", Port: 80})
	c.slice(slice("orders-1", "orders", ports, endpointAt("10.1.0.1", true, true, false)))
	f := startFollower(t, Options{Kube: c.agent}, services("orders", "orders:80"))
	f.until("the backend", f.has("orders", "10.1.0.1:8080"))
	f.until("no error", func() bool { return f.sets["orders"].Err == nil && f.sets["orders"].Complete })

	c.must(c.plane.StopAPI())
	f.until("the failure is said", f.errorHas("orders", "connection refused"))
	if !f.has("orders", "10.1.0.1:8080")() || !f.sets["orders"].Complete {
		t.Fatalf("without the API the set is %+v", f.sets["orders"])
	}
	if st := f.status("shop/orders"); !st.Stale || st.Failures == 0 || st.Answers != 1 {
		t.Errorf("without the API the status is %+v", st)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c.must(c.plane.StartAPI(ctx))
	f.until("no error again", func() bool { return f.sets["orders"].Err == nil })
	c.slice(slice("orders-1", "orders", ports, endpointAt("10.1.0.2", true, true, false)))
	f.until("a change after that", f.has("orders", "10.1.0.2:8080"))
	if st := f.status("shop/orders"); st.Stale || st.LastError != "" {
		t.Errorf("with the API again the status is %+v", st)
	}
}

// reports collects the reports of a ConfigMap follower.
type reports struct {
	mu    sync.Mutex
	calls int
	files map[string]string
	err   error
}

func (d *reports) take(files map[string]string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls, d.files, d.err = d.calls+1, files, err
}

func (d *reports) is(good func(files map[string]string, err error) bool) func() bool {
	return func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.calls > 0 && good(d.files, d.err)
	}
}

func TestKubeConfigMap(t *testing.T) {
	c := newCluster(t)
	api := c.admin.CoreV1().ConfigMaps("cbagent")
	_ = api.Delete(t.Context(), "cbagent-policy", metav1.DeleteOptions{}) // the shipped one, if there is one
	put := func(name string, data map[string]string) {
		t.Helper()
		m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}
		if _, err := api.Update(t.Context(), m, metav1.UpdateOptions{}); err != nil {
			_, err = api.Create(t.Context(), m, metav1.CreateOptions{})
			c.must(err)
		}
	}
	var got reports
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	m := FollowConfigMap(logger, c.agent, "cbagent", "cbagent-policy", got.take)
	defer m.Close()

	absent := func(_ map[string]string, err error) bool { return errors.Is(err, ErrNoConfigMap) }
	files := func(want map[string]string) func(map[string]string, error) bool {
		return func(got map[string]string, err error) bool { return err == nil && maps.Equal(got, want) }
	}
	poll(t, "that it does not exist", got.is(absent))
	first := map[string]string{"a.yaml": "version: 1\n", "b.yaml": "version: 1\npolicies: []\n"}
	put("another", map[string]string{"x.yaml": "no"})
	put("cbagent-policy", first)
	poll(t, "its files", got.is(files(first)))
	second := map[string]string{"a.yaml": "version: 1 # edited\n"}
	put("cbagent-policy", second)
	poll(t, "the edit", got.is(files(second)))
	c.must(api.Delete(t.Context(), "cbagent-policy", metav1.DeleteOptions{}))
	poll(t, "that it is gone, with the last files", got.is(func(got map[string]string, err error) bool {
		return errors.Is(err, ErrNoConfigMap) && maps.Equal(got, second)
	}))
	put("cbagent-policy", first)
	poll(t, "that it is back", got.is(files(first)))

	c.must(c.plane.StopAPI())
	poll(t, "the failure, with the last files", got.is(func(got map[string]string, err error) bool {
		return err != nil && !errors.Is(err, ErrNoConfigMap) && maps.Equal(got, first)
	}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c.must(c.plane.StartAPI(ctx))
	poll(t, "no failure", got.is(files(first)))
	put("cbagent-policy", second)
	poll(t, "an edit after that", got.is(files(second)))

	if _, err := c.agent.CoreV1().ConfigMaps("cbagent").Get(t.Context(), "another", metav1.GetOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("the shipped rights let the agent read another ConfigMap: %v", err)
	}
}
