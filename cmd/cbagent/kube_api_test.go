//go:build kube

package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/policy"
	"github.com/cbagent/cbagent/test/k8s/controlplane"
)

// next returns the follower's next update.
func next(t *testing.T, updates <-chan policy.Update) policy.Update {
	t.Helper()
	select {
	case u := <-updates:
		return u
	case <-time.After(20 * time.Second):
		t.Fatal("no update within 20 s")
		return policy.Update{}
	}
}

// With a real API: a ConfigMap that is missing, created, invalid, corrected, and forbidden.
func TestFollowConfigMap(t *testing.T) {
	c := controlplane.ForTest(t)
	kubectl := func(args ...string) {
		t.Helper()
		if _, err := c.Kubectl(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
	}
	follow := func(user string, groups ...string) <-chan policy.Update {
		t.Helper()
		kubeconfig, err := c.Kubeconfig(user, user, groups...)
		if err != nil {
			t.Fatal(err)
		}
		client, err := kubeClient(kubeconfig, true)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		return followConfigMap(ctx, slog.New(slog.DiscardHandler), client, configMapRef{"default", "breakers"})
	}

	updates := follow("agent", "system:masters")
	if u := next(t, updates); !errors.Is(u.Err, errNeedsHand) || !strings.Contains(u.Err.Error(), "default/breakers") {
		t.Errorf("missing: %v, want an error that names the ConfigMap and the remedy", u.Err)
	}
	kubectl("create", "configmap", "breakers", "--from-literal=a.yaml={version: 1, policies: []}")
	if u := next(t, updates); u.Err != nil || u.Set == nil {
		t.Errorf("made: %+v, want an empty set of policies", u)
	}
	kubectl("patch", "configmap", "breakers", "--type=merge", "-p", `{"data":{"a.yaml":"version: 7\npolicies: []"}}`)
	if u := next(t, updates); u.Err == nil || !strings.HasPrefix(u.Err.Error(), "default/breakers/a.yaml:1:10: ") {
		t.Errorf("spoilt: %v, want the place of the error", u.Err)
	}
	kubectl("patch", "configmap", "breakers", "--type=merge", "-p",
		`{"data":{"a.yaml":"version: 1\npolicies: [{name: x, match: {addresses: [\"192.0.2.1:80\"]}}]"}}`)
	if u := next(t, updates); u.Err != nil || len(u.Set.Policies) != 1 {
		t.Errorf("corrected: %+v, want one policy", u)
	}

	if u := next(t, follow("stranger")); !errors.Is(u.Err, errNeedsHand) || !strings.Contains(u.Err.Error(), "resourceNames [breakers]") {
		t.Errorf("forbidden: %v, want the Role that is missing", u.Err)
	}
}
