package discovery

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// servicePage is how many Services one request lists.
const servicePage = 500

// ServiceAddresses are the Services' own addresses (cluster IPs, external IPs, load balancer IPs), each with the
// NAMESPACE/NAME of its Service. After NAT no packet carries one of them as its destination, so as a backend it would never
// match.
type ServiceAddresses map[netip.Addr]string

// ListServiceAddresses reads the Services of all namespaces once.
func ListServiceAddresses(ctx context.Context, client kubernetes.Interface) (ServiceAddresses, error) {
	known := make(ServiceAddresses)
	options := metav1.ListOptions{Limit: servicePage}
	for {
		page, err := client.CoreV1().Services(metav1.NamespaceAll).List(ctx, options)
		if err != nil {
			return nil, fmt.Errorf("list the addresses of Services: %w", plainError(err))
		}
		for i := range page.Items {
			known.add(&page.Items[i])
		}
		if options.Continue = page.Continue; options.Continue == "" {
			return known, nil
		}
	}
}

func (known ServiceAddresses) add(s *corev1.Service) {
	all := append([]string{s.Spec.ClusterIP}, s.Spec.ClusterIPs...)
	all = append(all, s.Spec.ExternalIPs...)
	for _, in := range s.Status.LoadBalancer.Ingress {
		all = append(all, in.IP)
	}
	for _, text := range all {
		if a, err := netip.ParseAddr(text); err == nil { // not "None", nor empty
			known[a.Unmap()] = s.Namespace + "/" + s.Name
		}
	}
}

// Check returns an error, with the target to use instead, when at is a Service's own address.
func (known ServiceAddresses) Check(at netip.AddrPort) error {
	service, ok := known[at.Addr().Unmap()]
	if !ok {
		return nil
	}
	return fmt.Errorf("%s is the address of Service %s itself, which no packet carries after NAT: use services: [%q]",
		at, service, fmt.Sprintf("%s:%d", service, at.Port()))
}
