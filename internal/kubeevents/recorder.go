// Package kubeevents tells on the objects of Kubernetes what becomes of their circuits:
// `kubectl describe pod` then shows that callers of the pod are turned away, where, and why.
package kubeevents

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/cbagent/cbagent/internal/breaker"
)

// Reasons of the events.
const (
	ReasonOpened = "CircuitOpened"
	ReasonClosed = "CircuitClosed"
)

// Of each object a node tells burst things at once, and one more each refill: a circuit that flaps does not fill the
// cluster's store. What is alike is counted up in one Event.
const (
	burst  = 10
	refill = time.Minute
)

// Object is what an event is about: a pod, or a service where no pod is known.
type Object struct {
	Namespace string
	Pod       string
	PodUID    string // by which kubectl describe finds the event
	Service   string
}

// Recorder sends events. Its methods return at once; what the API refuses is logged, not returned.
type Recorder struct {
	broadcaster record.EventBroadcaster
	recorder    record.EventRecorder
	node        string
}

// New starts a recorder that speaks for a node. Close ends it.
func New(ctx context.Context, client kubernetes.Interface, node string, log *slog.Logger) *Recorder {
	broadcaster := record.NewBroadcaster(record.WithContext(ctx), record.WithCorrelatorOptions(record.CorrelatorOptions{
		BurstSize: burst,
		QPS:       float32(1 / refill.Seconds()),
	}))
	broadcaster.StartLogging(func(format string, args ...any) {
		log.Debug("Kubernetes event", "event", fmt.Sprintf(format, args...))
	})
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	return &Recorder{
		broadcaster: broadcaster,
		recorder:    broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "cbagent", Host: node}),
		node:        node,
	}
}

// Close ends the recorder; what has not been sent yet is lost.
func (r *Recorder) Close() { r.broadcaster.Shutdown() }

// Record tells of a transition, if it is one that changes what callers get: into open from closed, or into closed.
// An object without a namespace is of no cluster, and nothing is told.
func (r *Recorder) Record(about Object, e breaker.Event) {
	if about.Namespace == "" || e.Kind != breaker.EventTransition || e.From == e.To {
		return
	}
	switch {
	case e.To == breaker.StateOpen && e.From == breaker.StateClosed:
		r.recorder.Event(about.reference(), corev1.EventTypeWarning, ReasonOpened, r.opened(e))
	case e.To == breaker.StateClosed:
		r.recorder.Eventf(about.reference(), corev1.EventTypeNormal, ReasonClosed,
			"node %s lets callers through to %s again (policy %s): %s", r.node, e.Backend, e.Group, e.Reason)
	}
}

func (r *Recorder) opened(e breaker.Event) string {
	verb := "turns callers of %s away"
	if e.Mode == breaker.ModeMonitor {
		verb = "would turn callers of %s away, but only monitors"
	}
	text := fmt.Sprintf("node %s "+verb+" (policy %s): %s", r.node, e.Backend, e.Group, e.Reason)
	if e.HasNumbers {
		text += fmt.Sprintf(" is %s, and %s is the threshold", number(e.Value), number(e.Threshold))
	}
	if e.Until != breaker.Never {
		text += fmt.Sprintf("; it asks again after %s", e.Until.Sub(e.At))
	}
	return text
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }

func (o Object) reference() *corev1.ObjectReference {
	if o.Pod != "" {
		return &corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: o.Namespace, Name: o.Pod, UID: types.UID(o.PodUID),
		}
	}
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: o.Namespace, Name: o.Service}
}
