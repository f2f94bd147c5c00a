package kubeevents

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
)

// Retries of an event that the API does not accept. It is dropped in the end: the events that wait behind it are newer.
const (
	tries      = 6
	retryAfter = 10 * time.Second
)

// callTimeout is the time limit of one call of the API.
const callTimeout = 10 * time.Second

// sender sends one event after the other. Equal events become one whose count grows.
type sender struct {
	ctx        context.Context
	client     kubernetes.Interface
	log        *slog.Logger
	correlator *record.EventCorrelator
}

// send sends an event, unless there were too many of its object.
func (s *sender) send(event *corev1.Event) error {
	result, err := s.correlator.EventCorrelate(event)
	if err != nil {
		return s.failed(event, err)
	}
	if result.Skip {
		return nil
	}
	for try := 1; ; try++ {
		if err = s.write(result); err == nil {
			s.log.Debug("sent a Kubernetes event", "object", event.InvolvedObject.Name, "reason", event.Reason, "message", event.Message)
			return nil
		}
		var refused apierrors.APIStatus
		if try == tries || errors.As(err, &refused) {
			return s.failed(event, err)
		}
		select {
		case <-s.ctx.Done():
			return s.ctx.Err()
		case <-time.After(retryAfter):
		}
	}
}

func (s *sender) failed(event *corev1.Event, err error) error {
	if s.ctx.Err() == nil {
		s.log.Warn("cannot send a Kubernetes event", "object", event.InvolvedObject.Name, "reason", event.Reason, "error", err)
	}
	return fmt.Errorf("send a Kubernetes event: %w", err)
}

// write creates the event, or patches the count of the equal one that exists.
func (s *sender) write(r *record.EventCorrelateResult) error {
	ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
	defer cancel()
	events := s.client.CoreV1().Events(r.Event.Namespace)
	var stored *corev1.Event
	var err error
	again := r.Event.Count > 1
	if again {
		stored, err = events.Patch(ctx, r.Event.Name, types.StrategicMergePatchType, r.Patch, metav1.PatchOptions{})
	}
	if !again || apierrors.IsNotFound(err) { // the API server may have removed it since
		r.Event.ResourceVersion = ""
		stored, err = events.Create(ctx, r.Event, metav1.CreateOptions{})
	}
	if err != nil {
		return err
	}
	s.correlator.UpdateState(stored)
	return nil
}
