package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// kubeBackoff is the backoff of retries when the API server does not answer: a few at once, then one about every 5 s, so
// that agents notice its return soon and do not all connect at the same moment.
var kubeBackoff = wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 6, Cap: 5 * time.Second}

// listWatch are the two calls that a reflector needs.
type listWatch[L runtime.Object] struct {
	what     string // in errors: "EndpointSlices of shop/orders"
	grant    string // what a role must grant for it
	selector func(*metav1.ListOptions)
	list     func(context.Context, metav1.ListOptions) (L, error)
	watch    func(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// object is an object of a reflector.
type object interface {
	runtime.Object
	metav1.Object
}

// mirror stores the relevant parts (V) of the objects (T) of one watch, by name. While the API server does not answer it
// keeps them.
type mirror[T object, V any] struct {
	what    string
	grant   string
	logger  *slog.Logger
	keep    func(T) V
	same    func(a, b V) bool
	changed func() // called without the lock

	mu    sync.Mutex
	items map[string]V
	state SourceStatus
	err   error
}

// mirrorObjects starts a mirror. It runs until ctx ends; wait waits for that.
func mirrorObjects[T object, L runtime.Object, V any](ctx context.Context, logger *slog.Logger, calls listWatch[L], example T,
	keep func(T) V, same func(a, b V) bool, changed func()) (m *mirror[T, V], wait func()) {
	m = &mirror[T, V]{what: calls.what, grant: calls.grant, logger: logger, keep: keep, same: same, changed: changed}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			calls.selector(&o)
			list, err := calls.list(ctx, o)
			if err != nil {
				m.note(ctx, err)
			}
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			calls.selector(&o)
			w, err := calls.watch(ctx, o)
			if err == nil || o.SendInitialEvents == nil || !apierrors.IsInvalid(err) { // else an older server: the reflector lists instead
				m.note(ctx, err)
			}
			return w, err
		},
	}
	klogger := klog.Logger(logr.FromSlogHandler(quiet{logger.Handler()}))
	reflector := cache.NewReflectorWithOptions(lw, example, m, cache.ReflectorOptions{Name: "cbagent", Logger: &klogger, Backoff: &kubeBackoff})
	done := make(chan struct{})
	go func() {
		defer close(done)
		reflector.RunWithContext(klog.NewContext(ctx, klogger))
	}()
	return m, func() { <-done }
}

// note counts the result of one call and logs the begin and the end of failures.
func (m *mirror[T, V]) note(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	m.mu.Lock()
	before, known := m.err, len(m.items)
	if err == nil {
		m.err = nil
		m.state.Successes++
		m.state.LastSuccess = now
	} else {
		m.err = &KubeError{What: m.what, Grant: m.grant, Err: err}
		m.state.Failures++
		m.state.LastFailure = now
	}
	after := m.err
	m.mu.Unlock()
	switch {
	case before == nil && after != nil:
		m.logger.Warn("Kubernetes watch failed, keeping what is known", "watch", m.what, "known", known, "error", err)
	case before != nil && after == nil:
		m.logger.Info("Kubernetes watch works again", "watch", m.what)
	}
	if errorText(before) != errorText(after) {
		m.changed()
	}
}

// snapshot returns the items by name, whether the first answer has come, and the present error.
func (m *mirror[T, V]) snapshot() (items map[string]V, answered bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.items), m.state.Answered, m.err
}

func (m *mirror[T, V]) status() SourceStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	st := m.state
	st.LastError = errorText(m.err)
	st.Stale = m.err != nil && st.Answered
	return st
}

func (m *mirror[T, V]) put(obj any) error {
	o, ok := obj.(T)
	if !ok {
		return fmt.Errorf("watch %s: got a %T", m.what, obj)
	}
	v := m.keep(o)
	m.mu.Lock()
	old, had := m.items[o.GetName()]
	if m.items == nil {
		m.items = make(map[string]V)
	}
	m.items[o.GetName()] = v
	m.mu.Unlock()
	if !had || !m.same(old, v) {
		m.changed()
	}
	return nil
}

// Add, Update, Delete, Replace and Resync make it the store of a reflector.
func (m *mirror[T, V]) Add(obj any) error { return m.put(obj) }

// Update stores a changed object.
func (m *mirror[T, V]) Update(obj any) error { return m.put(obj) }

// Delete forgets an object.
func (m *mirror[T, V]) Delete(obj any) error {
	o, ok := obj.(T)
	if !ok {
		return fmt.Errorf("watch %s: got a %T", m.what, obj)
	}
	m.mu.Lock()
	delete(m.items, o.GetName())
	m.mu.Unlock()
	m.changed()
	return nil
}

// Replace stores the whole list, at the start and after the watch was lost for long.
func (m *mirror[T, V]) Replace(objs []any, _ string) error {
	items := make(map[string]V, len(objs))
	for _, obj := range objs {
		o, ok := obj.(T)
		if !ok {
			return fmt.Errorf("watch %s: got a %T", m.what, obj)
		}
		items[o.GetName()] = m.keep(o)
	}
	m.mu.Lock()
	m.items = items
	m.state.Answered = true
	m.mu.Unlock()
	m.changed()
	return nil
}

// Resync has nothing to do.
func (m *mirror[T, V]) Resync() error { return nil }
