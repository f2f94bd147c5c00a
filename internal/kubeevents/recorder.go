// Package kubeevents records transitions of circuits as Events of Kubernetes objects: `kubectl describe pod` then shows
// that clients of the pod are rejected, where, and why.
package kubeevents

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"

	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/outbox"
)

// component is the source component of the events.
const component = "cbagent"

// Reasons of the events.
const (
	ReasonOpened = "CircuitOpened"
	ReasonClosed = "CircuitClosed"
)

// Limits of a node's events of one object: burst at once, and one more each refill, so that a circuit that flaps does not
// fill the cluster's store. Equal events are counted in one Event.
const (
	burst  = 10
	refill = time.Minute
)

// Object is what an event is about: a pod, or a service where no pod is known.
type Object struct {
	Namespace string
	Pod       string
	PodUID    string // kubectl describe finds the event by it
	Service   string
}

// waiting is how many events may wait for the API.
const waiting = 1000

// closing is how long Close waits for a call of the API that is under way.
const closing = time.Second

// Recorder sends events from a goroutine of its own. Errors of the API are logged, not returned.
type Recorder struct {
	events *outbox.Outbox[*corev1.Event]
	node   string
	cancel context.CancelFunc
}

// New starts a recorder for the events of a node. Close ends it.
func New(ctx context.Context, client kubernetes.Interface, node string, log *slog.Logger) *Recorder {
	ctx, cancel := context.WithCancel(ctx)
	s := &sender{ctx: ctx, client: client, log: log, correlator: record.NewEventCorrelatorWithOptions(record.CorrelatorOptions{
		BurstSize: burst,
		QPS:       float32(1 / refill.Seconds()),
	})}
	report := func(dropped uint64) {
		log.Warn("Kubernetes events were dropped: the API was too slow or did not answer", "events", dropped)
	}
	return &Recorder{events: outbox.New(waiting, s.send, report), node: node, cancel: cancel}
}

// Close ends the recorder; events that have not been sent yet are lost.
func (r *Recorder) Close() {
	r.cancel()
	r.events.Close(closing)
}

// Dropped returns how many events were not sent, because the API was too slow or rejected them.
func (r *Recorder) Dropped() uint64 { return r.events.Dropped() }

// Record sends an event for a transition from closed to open, or to closed. Other transitions change nothing for clients.
// An object without a namespace is not in the cluster, and has no events.
func (r *Recorder) Record(about Object, e breaker.Event) {
	if about.Namespace == "" || e.Kind != breaker.EventTransition || e.From == e.To {
		return
	}
	switch {
	case e.To == breaker.StateOpen && e.From == breaker.StateClosed:
		r.put(about, corev1.EventTypeWarning, ReasonOpened, r.opened(e))
	case e.To == breaker.StateClosed:
		r.put(about, corev1.EventTypeNormal, ReasonClosed,
			fmt.Sprintf("node %s admits clients to %s again (policy %s): %s", r.node, e.Backend, e.Group, e.Reason))
	}
}

func (r *Recorder) put(about Object, kind, reason, message string) {
	now := time.Now()
	at := metav1.NewTime(now)
	ref := about.reference()
	r.events.Put(&corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: fmt.Sprintf("%s.%x", ref.Name, now.UnixNano()), Namespace: ref.Namespace},
		InvolvedObject: *ref, Type: kind, Reason: reason, Message: message,
		Source: corev1.EventSource{Component: component, Host: r.node}, ReportingController: component, ReportingInstance: r.node,
		FirstTimestamp: at, LastTimestamp: at, Count: 1,
	})
}

func (r *Recorder) opened(e breaker.Event) string {
	verb := "rejects clients of %s"
	if e.Mode == breaker.ModeMonitor {
		verb = "would reject clients of %s, but only monitors"
	}
	text := fmt.Sprintf("node %s "+verb+" (policy %s): %s", r.node, e.Backend, e.Group, e.Reason)
	if e.HasNumbers {
		text += fmt.Sprintf(" is %s, and %s is the threshold", number(e.Value), number(e.Threshold))
	}
	if e.Until != breaker.Never {
		text += fmt.Sprintf("; it probes the backend after %s", e.Until.Sub(e.At))
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
