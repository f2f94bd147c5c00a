package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// ErrNoKube means that no Kubernetes API is configured.
var ErrNoKube = errors.New("no Kubernetes API is known: run in a pod with a service account, or name a kubeconfig")

// The client's own limit of requests. A policy file of a thousand services starts two thousand watches.
const (
	kubeQPS   = 100
	kubeBurst = 500
)

// NewKubeClient returns a client for the cluster that kubeconfig describes, or, when it is empty, for the one whose pod
// this process is. Outside of a cluster and without a kubeconfig the error is ErrNoKube. It does not connect yet.
func NewKubeClient(kubeconfig, userAgent string) (kubernetes.Interface, error) {
	config, err := kubeConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	config.UserAgent = userAgent
	config.QPS, config.Burst = kubeQPS, kubeBurst
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	config.WarningHandlerWithContext = rest.NoWarnings{}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a Kubernetes client for %s: %w", config.Host, err)
	}
	return client, nil
}

func kubeConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig != "" {
		config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("read kubeconfig %s: %w", kubeconfig, err)
		}
		return config, nil
	}
	config, err := rest.InClusterConfig()
	switch {
	case errors.Is(err, rest.ErrNotInCluster):
		return nil, ErrNoKube
	case err != nil:
		return nil, fmt.Errorf("use the pod's service account: %w: the pod needs a serviceAccountName and `automountServiceAccountToken: true`, "+
			"or --kubeconfig", err)
	}
	return config, nil
}

// quiet is a log handler that logs client-go's messages at debug level: relevant errors are in the status of the source,
// and logged once.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo && q.Handler.Enabled(ctx, slog.LevelDebug)
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	return q.Handler.Handle(ctx, r)
}

func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }
func (q quiet) WithGroup(name string) slog.Handler       { return quiet{q.Handler.WithGroup(name)} }
