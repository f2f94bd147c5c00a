package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/cbagent/cbagent/internal/agent"
	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/kubeevents"
	"github.com/cbagent/cbagent/internal/policy"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
)

// configMapRef is NAMESPACE/NAME.
type configMapRef struct{ namespace, name string }

func parseConfigMapRef(s string) (configMapRef, error) {
	namespace, name, ok := strings.Cut(s, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return configMapRef{}, fmt.Errorf("--policy-configmap: must be NAMESPACE/NAME, got %q", s)
	}
	return configMapRef{namespace, name}, nil
}

func (r configMapRef) String() string { return r.namespace + "/" + r.name }

// kubeClient returns a client for the cluster of this process, or for the one that the kubeconfig names. It returns nil
// when there is none, or an error if one is required.
func kubeClient(kubeconfig string, required bool) (kubernetes.Interface, error) {
	client, err := discovery.NewKubeClient(kubeconfig, "cbagent")
	if errors.Is(err, discovery.ErrNoKube) && !required {
		return nil, nil
	}
	return client, err
}

// followConfigMap returns the channel of the policies of a ConfigMap's *.yaml: the first ones and each change, until ctx is
// done. Until the API answers, it sends updates with agent.ErrNotYet and the reason, and tries again, because a node may
// start before its API does. An error that only an operator can correct is an update with another error.
func followConfigMap(ctx context.Context, log *slog.Logger, client kubernetes.Interface, ref configMapRef) <-chan policy.Update {
	updates := make(chan policy.Update)
	var reload policy.Reload
	follower := discovery.FollowConfigMap(log, client, ref.namespace, ref.name, func(files map[string]string, err error) {
		err = final(ref, err)
		if err != nil && files == nil && !errors.Is(err, errNeedsHand) {
			log.Error("policies cannot be read yet", "configmap", ref.String(), "error", err)
			err = fmt.Errorf("%w (%w)", err, agent.ErrNotYet)
		}
		update := policy.Update{Err: err}
		if err == nil {
			update.Set, update.Err = reload.Parse(ref.String(), configMapSources(ref, files))
		}
		select {
		case updates <- update:
		case <-ctx.Done():
		}
	})
	go func() {
		<-ctx.Done()
		if err := follower.Close(); err != nil {
			log.Warn("cannot stop following the ConfigMap", "error", err)
		}
		close(updates)
	}()
	return updates
}

// errNeedsHand marks errors that an operator must correct.
var errNeedsHand = errors.New("waiting does not mend it")

// final marks errors of the API that an operator must correct.
func final(ref configMapRef, err error) error {
	switch {
	case errors.Is(err, discovery.ErrNoConfigMap):
		return fmt.Errorf("%w: make it (kubectl create configmap %s -n %s --from-literal='policy.yaml={version: 1, policies: []}'; %w)",
			err, ref.name, ref.namespace, errNeedsHand)
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return fmt.Errorf("%w (%w)", err, errNeedsHand)
	}
	return err
}

// configMapSources returns the policy files of a ConfigMap, in the order of their names, as in a directory.
func configMapSources(ref configMapRef, files map[string]string) []policy.Source {
	var sources []policy.Source
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, ".yaml") {
			sources = append(sources, policy.Source{Name: ref.String() + "/" + name, Data: []byte(files[name])})
		}
	}
	return sources
}

// kubeObject returns the object of a circuit's events: its pod, or the service that it was found by.
func kubeObject(backends []discovery.Backend) kubeevents.Object {
	if len(backends) == 0 || backends[0].Kind != discovery.KindService {
		return kubeevents.Object{}
	}
	b := backends[0]
	namespace, rest, _ := strings.Cut(b.Source, "/")
	service, _, _ := strings.Cut(rest, ":")
	if len(backends) > 1 || b.Pod == "" { // one circuit for all of a policy's backends
		return kubeevents.Object{Namespace: namespace, Service: service}
	}
	return kubeevents.Object{Namespace: b.Namespace, Pod: b.Pod, PodUID: b.PodUID, Service: service}
}

// notifyKubernetes returns a function that records events of circuits as Kubernetes events.
func notifyKubernetes(r *kubeevents.Recorder) func(breaker.Event, []discovery.Backend) {
	return func(e breaker.Event, backends []discovery.Backend) { r.Record(kubeObject(backends), e) }
}
