package discovery

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// KubeError is the error of a watch of the Kubernetes API. Its text names the remedy, where that is known.
type KubeError struct {
	What  string // the watched objects: "EndpointSlices of shop/orders"
	Grant string // what a role must grant
	Err   error
}

func (e *KubeError) Error() string {
	return fmt.Sprintf("watch %s: %v%s", e.What, plainError(e.Err), e.remedy())
}

func (e *KubeError) Unwrap() error { return e.Err }

func (e *KubeError) remedy() string {
	var silent *net.OpError
	var inURL *url.Error
	var untrusted *tls.CertificateVerificationError
	switch {
	case apierrors.IsForbidden(e.Err):
		return ": " + e.Grant + ", and be bound to the ServiceAccount of the agent (kubectl apply -f deploy/daemonset.yaml makes both)"
	case apierrors.IsUnauthorized(e.Err):
		return ": the API does not know the token: delete the pod so that it gets another, or name a good one with --kubeconfig"
	case errors.As(e.Err, &untrusted):
		return ": the certificate is not the API server's, or that of another cluster: compare the server and the certificate authority " +
			"with those of kubectl config view --minify"
	case errors.As(e.Err, &silent) && errors.As(e.Err, &inURL):
		at := inURL.URL
		if u, err := url.Parse(inURL.URL); err == nil {
			at = u.Scheme + "://" + u.Host
		}
		return ": the API server does not answer this node (try curl -k " + at + "/readyz there): a ClusterIP takes kube-proxy; " +
			"without it set env KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT of the container to the API server's own address"
	}
	return ""
}
