package discovery

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"syscall"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestKubeError(t *testing.T) {
	slices := schema.GroupResource{Group: "discovery.k8s.io", Resource: "endpointslices"}
	at := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}
	for _, test := range []struct {
		err  error
		want string
	}{
		{apierrors.NewForbidden(slices, "", errors.New("no")),
			`watch X: endpointslices.discovery.k8s.io is forbidden: no: GRANT, and be bound to the ServiceAccount of the agent ` +
				`(kubectl apply -f deploy/daemonset.yaml makes both)`},
		{apierrors.NewUnauthorized("who?"),
			`watch X: who?: the API does not know the token: delete the pod so that it gets another, or name a good one with --kubeconfig`},
		{&url.Error{Op: "Get", URL: "https://192.0.2.1:443/api/v1?x=y", Err: &net.OpError{Op: "dial", Net: "tcp", Addr: at, Err: syscall.ECONNREFUSED}},
			`watch X: dial tcp 192.0.2.1:443: connection refused: the API server does not answer this node (try curl -k ` +
				`https://192.0.2.1:443/readyz there): a ClusterIP takes kube-proxy; without it set env KUBERNETES_SERVICE_HOST and ` +
				`KUBERNETES_SERVICE_PORT of the container to the API server's own address`},
		{&url.Error{Op: "Get", URL: "https://192.0.2.1:443/api", Err: &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}},
			`watch X: tls: failed to verify certificate: x509: certificate signed by unknown authority: the certificate is not the API ` +
				`server's, or that of another cluster: compare the server and the certificate authority with those of kubectl config view --minify`},
		{apierrors.NewInternalError(errors.New("later")), `watch X: Internal error occurred: later`},
	} {
		if got := (&KubeError{What: "X", Grant: "GRANT", Err: test.err}).Error(); got != test.want {
			t.Errorf("got\n%s\nwant\n%s", got, test.want)
		}
	}
}
