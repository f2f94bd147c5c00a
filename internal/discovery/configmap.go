package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// ErrNoConfigMap means that the followed ConfigMap does not exist.
var ErrNoConfigMap = errors.New("the ConfigMap does not exist")

// ConfigMap follows one ConfigMap through the Kubernetes API. It watches no other, so that a role restricted to its
// name (resourceNames) is enough.
type ConfigMap struct {
	namespace, name string
	mirror          *mirror[*corev1.ConfigMap, configMapFiles]
	report          func(files map[string]string, err error)
	wake            chan struct{}
	cancel          context.CancelFunc
	done            chan struct{}
}

type configMapFiles struct {
	data map[string]string
}

// FollowConfigMap follows a ConfigMap until Close. It calls report with the files (the data, by key; not to be changed)
// when they are first known and whenever they change, and with an error when the ConfigMap does not exist or the API cannot
// be read. With an error files are the last known ones, nil if there are none. Calls come one after the other from a
// goroutine of the follower; equal results are reported once.
func FollowConfigMap(logger *slog.Logger, client kubernetes.Interface, namespace, name string, report func(files map[string]string, err error)) *ConfigMap {
	ctx, cancel := context.WithCancel(context.Background())
	c := &ConfigMap{
		namespace: namespace, name: name, report: report,
		wake: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{}),
	}
	changed := func() {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
	api := client.CoreV1().ConfigMaps(namespace)
	m, wait := mirrorObjects(ctx, logger, listWatch[*corev1.ConfigMapList]{
		what:     "ConfigMap " + namespace + "/" + name,
		grant:    fmt.Sprintf("a Role must grant get, list and watch on configmaps with resourceNames [%s] in namespace %s", name, namespace),
		selector: func(o *metav1.ListOptions) { o.FieldSelector = "metadata.name=" + name },
		list:     api.List,
		watch:    api.Watch,
	}, &corev1.ConfigMap{}, keepConfigMap, sameConfigMap, changed)
	c.mirror = m
	go c.run(ctx, wait)
	return c
}

func (c *ConfigMap) run(ctx context.Context, wait func()) {
	defer close(c.done)
	defer wait()
	var reported bool
	var lastFiles map[string]string
	var lastErr error
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
		items, answered, err := c.mirror.snapshot()
		if !answered && err == nil {
			continue
		}
		files, exists := lastFiles, false
		if item, ok := items[c.name]; ok {
			files, exists = item.data, true
		}
		if answered && !exists && err == nil {
			err = fmt.Errorf("follow ConfigMap %s/%s: %w", c.namespace, c.name, ErrNoConfigMap)
		}
		if reported && errorText(err) == errorText(lastErr) && maps.Equal(files, lastFiles) {
			continue
		}
		reported, lastFiles, lastErr = true, files, err
		c.report(files, err)
	}
}

// Close ends the watch and waits for its end. report is not called after that.
func (c *ConfigMap) Close() error {
	c.cancel()
	<-c.done
	return nil
}

// keepConfigMap returns files that are never nil: nil means that the ConfigMap has never been read.
func keepConfigMap(c *corev1.ConfigMap) configMapFiles {
	files := make(map[string]string, len(c.Data))
	maps.Copy(files, c.Data)
	return configMapFiles{files}
}

func sameConfigMap(a, b configMapFiles) bool { return maps.Equal(a.data, b.data) }
