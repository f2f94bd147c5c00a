package controlplane

import (
	"context"
	"errors"
	"slices"
)

// apiServer is the component that StopAPI and StartAPI are about.
const apiServer = "kube-apiserver"

// StopAPI ends the kube-apiserver and leaves etcd alone, as when the machine with the
// API is away for a while.
func (c *ControlPlane) StopAPI() error {
	var errs []error
	for _, p := range c.processes {
		if p.Name == apiServer {
			errs = append(errs, p.Stop())
		}
	}
	return errors.Join(errs...)
}

// StartAPI starts the kube-apiserver again, on the same port, and waits until it is
// ready.
func (c *ControlPlane) StartAPI(ctx context.Context) error {
	for i, p := range c.processes {
		if p.Name == apiServer {
			c.processes = slices.Delete(c.processes, i, i+1)
			break
		}
	}
	if err := c.run(apiServer, c.apiArgs...); err != nil {
		return err
	}
	return c.ready(ctx)
}

// AdminKubeconfig is the path of the kubeconfig that may do everything.
func (c *ControlPlane) AdminKubeconfig() string { return c.kubeconfigPath(Admin) }
