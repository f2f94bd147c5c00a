package kubeevents

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/cbagent/cbagent/internal/breaker"
)

var pod = Object{Namespace: "shop", Pod: "orders-1", PodUID: "uid-1", Service: "orders"}

func opened() breaker.Event {
	return breaker.Event{
		Kind: breaker.EventTransition, From: breaker.StateClosed, To: breaker.StateOpen,
		Reason: breaker.TripReason(breaker.TripConsecutiveFailures), HasNumbers: true, Value: 5, Threshold: 5,
		At: 0, Until: breaker.Time(30 * time.Second), Group: "orders", Backend: "10.244.1.7:8080",
	}
}

// sentEvents returns the events that the API has received, once there are so many.
func sentEvents(t *testing.T, client *fake.Clientset, want int) []corev1.Event {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		list, err := client.CoreV1().Events("").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Items) == want || time.Now().After(deadline) {
			return list.Items
		}
		time.Sleep(time.Millisecond)
	}
}

func newRecorder(t *testing.T) (*Recorder, *fake.Clientset) {
	client := fake.NewClientset()
	ctx, cancel := context.WithCancel(t.Context())
	r := New(ctx, client, "node-1", slog.New(slog.DiscardHandler))
	t.Cleanup(func() { r.Close(); cancel() })
	return r, client
}

func TestRecord(t *testing.T) {
	closed := opened()
	closed.From, closed.To, closed.Reason, closed.HasNumbers = breaker.StateHalfOpen, breaker.StateClosed, breaker.ReasonProbesPassed, false
	monitored := opened()
	monitored.Mode = breaker.ModeMonitor
	byHand := opened()
	byHand.Reason, byHand.HasNumbers, byHand.Until = breaker.ReasonManual, false, breaker.Never

	tests := []struct {
		name  string
		about Object
		event breaker.Event
		want  string // kind/name uid type reason: message
	}{
		{"opened", pod, opened(), "Pod/orders-1 uid-1 Warning CircuitOpened: node node-1 rejects clients of 10.244.1.7:8080" +
			" (policy orders): consecutiveFailures is 5, and 5 is the threshold; it probes the backend after 30s"},
		{"closed", pod, closed, "Pod/orders-1 uid-1 Normal CircuitClosed: node node-1 admits clients to 10.244.1.7:8080" +
			" again (policy orders): probesPassed"},
		{"only monitored", pod, monitored, "Pod/orders-1 uid-1 Warning CircuitOpened: node node-1 would reject clients of 10.244.1.7:8080," +
			" but only monitors (policy orders): consecutiveFailures is 5, and 5 is the threshold; it probes the backend after 30s"},
		{"by hand, for ever", pod, byHand, "Pod/orders-1 uid-1 Warning CircuitOpened: node node-1 rejects clients of 10.244.1.7:8080" +
			" (policy orders): manual"},
		{"a service", Object{Namespace: "shop", Service: "orders"}, opened(), "Service/orders  Warning CircuitOpened: node node-1 rejects clients" +
			" of 10.244.1.7:8080 (policy orders): consecutiveFailures is 5, and 5 is the threshold; it probes the backend after 30s"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, client := newRecorder(t)
			r.Record(test.about, test.event)
			var got []string
			for _, e := range sentEvents(t, client, 1) {
				o := e.InvolvedObject
				got = append(got, fmt.Sprintf("%s/%s %s %s %s: %s", o.Kind, o.Name, o.UID, e.Type, e.Reason, e.Message))
				if e.Namespace != "shop" || e.Source.Host != "node-1" {
					t.Errorf("in namespace %q, from host %q: want shop, node-1", e.Namespace, e.Source.Host)
				}
			}
			if diff := cmp.Diff([]string{test.want}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// There is no event for a transition that changes nothing for clients, or for an object outside of the cluster. The last
// event shows that the others have been handled.
func TestRecordKeepsQuiet(t *testing.T) {
	halfOpen, again, overflow, same := opened(), opened(), opened(), opened()
	halfOpen.From, halfOpen.To = breaker.StateOpen, breaker.StateHalfOpen
	again.From = breaker.StateHalfOpen
	overflow.Kind = breaker.EventOverflow
	same.From = breaker.StateOpen

	r, client := newRecorder(t)
	for _, e := range []breaker.Event{halfOpen, again, overflow, same} {
		r.Record(pod, e)
	}
	r.Record(Object{}, opened())
	r.Record(Object{Namespace: "shop", Service: "last"}, opened())
	got := sentEvents(t, client, 1)
	if len(got) != 1 || got[0].InvolvedObject.Name != "last" {
		t.Errorf("sent: %+v, want the last alone", got)
	}
}

// A circuit that flaps has burst events, not more.
func TestRecordIsRateLimited(t *testing.T) {
	r, client := newRecorder(t)
	for i := range 3 * burst {
		e := opened()
		e.Value = float64(i) // so that no two are alike
		r.Record(pod, e)
	}
	r.Record(Object{Namespace: "shop", Service: "last"}, opened())
	deadline := time.Now().Add(10 * time.Second)
	for {
		about := map[string]int32{}
		for _, e := range sentEvents(t, client, burst+1) {
			about[e.InvolvedObject.Name] += max(1, e.Count)
		}
		if about["last"] == 1 {
			if about["orders-1"] == 0 || about["orders-1"] > burst {
				t.Errorf("sent %d times, want 1 to %d", about["orders-1"], burst)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the last was not sent: %v", about)
		}
	}
}
