// Package controlplane runs a real etcd and kube-apiserver, and where asked the
// controllers and the scheduler, for tests that need Kubernetes' own judgement.
// scripts/kube-binary.sh builds what it runs.
package controlplane

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/test/k8s/process"
)

// Addresses that every test cluster uses inside itself.
const (
	ServiceCIDR    = "10.96.0.0/16" // ClusterIPs; 10.96.0.1 is the API
	serviceAddress = "10.96.0.1"
)

// Admin is the name of the kubeconfig that may do everything.
const Admin = "admin"

// Config says what to run, and where.
type Config struct {
	Binaries    string     // folder of scripts/kube-binary.sh
	Dir         string     // for certificates, etcd's data and logs
	Address     netip.Addr // of the API; 127.0.0.1 if not set
	Controllers bool       // controller-manager and scheduler too

	// Namespace is the network namespace that it runs in; nil is the client's.
	Namespace *netlab.Namespace
}

// ControlPlane is a running one. Stop ends it.
type ControlPlane struct {
	config    Config
	authority *authority
	url       string
	processes []*process.Process
	apiArgs   []string
}

// Start runs etcd and kube-apiserver and gives a ControlPlane whose API is ready,
// or an error that shows the end of the log of what failed. It waits as long as ctx
// allows; a few seconds are usual.
func Start(ctx context.Context, config Config) (*ControlPlane, error) {
	if !config.Address.IsValid() {
		config.Address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	ca, err := newAuthority(filepath.Join(config.Dir, "pki"))
	if err != nil {
		return nil, err
	}
	c := &ControlPlane{config: config, authority: ca}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

func (c *ControlPlane) start(ctx context.Context) error {
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	etcdPort, peerPort, apiPort := ports[0], ports[1], ports[2]
	c.url = fmt.Sprintf("https://%s", netip.AddrPortFrom(c.config.Address, apiPort))
	if err := c.certificates(); err != nil {
		return err
	}

	etcd := fmt.Sprintf("http://127.0.0.1:%d", etcdPort)
	peer := fmt.Sprintf("http://127.0.0.1:%d", peerPort)
	if err := c.run("etcd",
		"--data-dir="+filepath.Join(c.config.Dir, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls="+etcd, "--advertise-client-urls="+etcd,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer,
	); err != nil {
		return err
	}

	file := c.authority.file
	api := []string{
		"--etcd-servers=" + etcd,
		"--bind-address=" + c.config.Address.String(),
		"--advertise-address=" + c.config.Address.String(),
		fmt.Sprintf("--secure-port=%d", apiPort),
		"--cert-dir=" + filepath.Join(c.config.Dir, "certs"),
		"--tls-cert-file=" + file("kube-apiserver.crt"), "--tls-private-key-file=" + file("kube-apiserver.key"),
		"--client-ca-file=" + file("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + file("accounts.pub"), "--service-account-signing-key-file=" + file("accounts.key"),
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--service-cluster-ip-range=" + ServiceCIDR,
		"--kubelet-client-certificate=" + file("kubelet-client.crt"), "--kubelet-client-key=" + file("kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP",
	}
	if !c.config.Controllers {
		// The default ServiceAccount of a namespace is a controller's work.
		api = append(api, "--disable-admission-plugins=ServiceAccount")
	}
	c.apiArgs = api
	if err := c.run(apiServer, api...); err != nil {
		return err
	}
	if err := c.ready(ctx); err != nil {
		return err
	}
	if c.config.Controllers {
		return c.controllers()
	}
	return nil
}

// certificates makes what the components show each other, and the administrator's
// kubeconfig.
func (c *ControlPlane) certificates() error {
	addresses := []net.IP{c.config.Address.AsSlice(), net.ParseIP("127.0.0.1"), net.ParseIP(serviceAddress)}
	if err := c.authority.server("kube-apiserver", addresses,
		"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"); err != nil {
		return err
	}
	if err := c.authority.keyPair("accounts"); err != nil {
		return err
	}
	if err := c.authority.client("kubelet-client", "apiserver-kubelet-client", "system:masters"); err != nil {
		return err
	}
	_, err := c.Kubeconfig(Admin, "cbagent-test-admin", "system:masters")
	return err
}

func (c *ControlPlane) controllers() error {
	manager, err := c.Kubeconfig("controller-manager", "system:kube-controller-manager")
	if err != nil {
		return err
	}
	scheduler, err := c.Kubeconfig("scheduler", "system:kube-scheduler")
	if err != nil {
		return err
	}
	file := c.authority.file
	if err := c.run("kube-controller-manager",
		"--kubeconfig="+manager, "--leader-elect=false", "--use-service-account-credentials",
		"--service-account-private-key-file="+file("accounts.key"), "--root-ca-file="+file("ca.crt"),
		"--bind-address=127.0.0.1", "--cert-dir="+filepath.Join(c.config.Dir, "certs"),
	); err != nil {
		return err
	}
	return c.run("kube-scheduler",
		"--kubeconfig="+scheduler, "--leader-elect=false",
		"--bind-address=127.0.0.1", "--cert-dir="+filepath.Join(c.config.Dir, "certs"))
}

// run starts a component.
func (c *ControlPlane) run(component string, args ...string) error {
	cmd := exec.Command(filepath.Join(c.config.Binaries, component), args...)
	p, err := process.Start(c.config.Dir, component, cmd, c.config.Namespace)
	if err != nil {
		return err
	}
	c.processes = append(c.processes, p)
	return nil
}

// ready waits until the API says that it is.
func (c *ControlPlane) ready(ctx context.Context) error {
	for {
		err := c.probe(ctx)
		if err == nil {
			return nil
		}
		for _, p := range c.processes {
			if p.Exited() {
				return fmt.Errorf("%s has ended: %s\n%s", p.Name, p.State(), p.Tail())
			}
		}
		select {
		case <-ctx.Done():
			api := c.processes[len(c.processes)-1]
			return fmt.Errorf("API not ready: %w\n%s", errors.Join(ctx.Err(), err), api.Tail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (c *ControlPlane) probe(ctx context.Context) error {
	pair, err := tls.LoadX509KeyPair(c.authority.file(Admin+".crt"), c.authority.file(Admin+".key"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(c.authority.cert)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}
	if c.config.Namespace != nil {
		transport.DialContext = c.config.Namespace.DialContext
	}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/readyz", nil)
	if err != nil {
		return err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET /readyz: %s", response.Status)
	}
	return nil
}

// URL is where the API answers.
func (c *ControlPlane) URL() string { return c.url }

// CertificateAuthority is the path of the certificate that vouches for the API.
func (c *ControlPlane) CertificateAuthority() string { return c.authority.file("ca.crt") }

// Kubectl runs kubectl as the administrator and gives what it printed. An error
// holds what it said.
func (c *ControlPlane) Kubectl(ctx context.Context, args ...string) ([]byte, error) {
	return c.KubectlInput(ctx, "", args...)
}

// KubectlInput is Kubectl with something on standard input.
func (c *ControlPlane) KubectlInput(ctx context.Context, input string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(c.config.Binaries, "kubectl"), append([]string{
		"--kubeconfig=" + c.kubeconfigPath(Admin),
		"--cache-dir=" + filepath.Join(c.config.Dir, "kubectl"),
	}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := process.Launch(cmd, c.config.Namespace)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		err = fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(said.Bytes()))
	}
	return out.Bytes(), err
}

// Stop ends all components; the newest first. A second call does nothing.
func (c *ControlPlane) Stop() error {
	var errs []error
	for i := len(c.processes) - 1; i >= 0; i-- {
		errs = append(errs, c.processes[i].Stop())
	}
	c.processes = nil
	return errors.Join(errs...)
}

// Logs is the end of each component's log.
func (c *ControlPlane) Logs() string {
	var all string
	for _, p := range c.processes {
		all += fmt.Sprintf("--- %s\n%s\n", p.Name, p.Tail())
	}
	return all
}

// freePorts gives n TCP ports of the loopback that nobody listens on.
func freePorts(n int) ([]uint16, error) {
	var ports []uint16
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).AddrPort().Port())
	}
	return ports, nil
}
