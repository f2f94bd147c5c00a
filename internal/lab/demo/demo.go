package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/cbagent/cbagent/internal/lab/agentproc"
	"github.com/cbagent/cbagent/internal/lab/loadgen"
	"github.com/cbagent/cbagent/internal/lab/netlab"
	"github.com/cbagent/cbagent/internal/lab/testserver"
)

// The load on each backend.
const (
	port        = 8080
	keptWorkers = 4   // clients that keep their connection
	keptRate    = 200 // their requests a second
	newWorkers  = 2   // clients with a connection for each request
	newRate     = 100 // their requests a second
	failing     = 1   // the index of the backend that fails
)

// Options set how the demo runs.
type Options struct {
	Agent  []string // the command that runs the agent, to which flags are added, such as cbagent run
	Script Script
	View   View
}

// Run runs the demo and returns its report. The report is complete if the error is nil or one of the breaker's faults,
// which ErrFaults matches; otherwise the demo could not be run to its end. Nothing is left behind either way.
func Run(ctx context.Context, o Options) (Report, error) {
	if err := checkCapabilities(); err != nil {
		return Report{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.Script.Limit, fmt.Errorf("the demo took longer than %s", o.Script.Limit))
	defer cancel()
	r := &run{Options: o}
	err := r.setUp(ctx)
	if err == nil {
		err = r.play(ctx)
	}
	// The error of the play is reported after the agent has ended: the agent's error may explain it.
	err = errors.Join(err, r.tearDown())
	if err != nil && !errors.Is(err, errStalled) {
		return Report{}, err
	}
	rec := r.recorder.recording(r.agent.Transitions())
	report, faults := rec.report(failing, keptWorkers+newWorkers)
	if err = errors.Join(err, faults); err != nil {
		report.OK = false
		return report, faultError{err}
	}
	return report, nil
}

// ErrFaults is matched by errors that name faults of the breaker.
var ErrFaults = errors.New("the breaker did not do its job")

type faultError struct{ error }

func (faultError) Is(target error) bool { return target == ErrFaults }

// errStalled is matched by the error of a play that waited in vain for the breaker.
var errStalled = errors.New("nothing happened")

// run is one run of the demo.
type run struct {
	Options
	star         *netlab.Star
	servers      []*testserver.Server
	recorder     *recorder
	agent        *agentproc.Process
	removePolicy func() error

	stopLoad context.CancelFunc
	load     sync.WaitGroup
}

// setUp makes the network, the servers and the agent.
func (r *run) setUp(ctx context.Context) error {
	r.View.Say("making network namespaces: client, node, b1, b2, b3")
	var err error
	if r.star, err = netlab.NewStar(netlab.Options{Backends: 3}); err != nil {
		return fmt.Errorf("make the demo's network: %w", err)
	}
	var targets []netip.AddrPort
	for _, b := range r.star.Backends {
		at := netip.AddrPortFrom(b.IPv4, port)
		server, err := testserver.New(b.Listen, at)
		if err != nil {
			return err
		}
		r.servers, targets = append(r.servers, server), append(targets, at)
	}
	r.recorder = newRecorder(targets)
	path, remove, err := writePolicy(policyText(targets, r.Script.Open))
	if err != nil {
		return err
	}
	r.removePolicy = remove
	command := append(slices.Clone(r.Agent), "--policy", path, "--interface", "be*")
	r.View.Say("starting the agent on the node, with a policy that opens a circuit after 5 failures in a row")
	if r.agent, err = agentproc.Start(r.star.Node, command...); err != nil {
		return err
	}
	return r.agent.AwaitReady(ctx)
}

// play goes through the phases.
func (r *run) play(ctx context.Context) error {
	targets := r.recorder.rec.backends
	b2 := targets[failing]
	r.startLoad(ctx, targets)
	r.begin(Healthy, time.Now())
	if err := r.linger(ctx, r.Script.Healthy); err != nil {
		return err
	}

	r.begin(Failing, time.Now())
	r.servers[failing].SetDecide(func(*http.Request, uint64) testserver.Behaviour {
		r.recorder.failed()
		return testserver.Behaviour{Status: http.StatusInternalServerError, Body: []byte("broken\n")}
	})
	opened, err := r.await(ctx, b2, "open", r.recorder.began(Failing))
	if err != nil {
		return err
	}
	r.enter(Open, opened)
	if err := r.linger(ctx, r.Script.Heal); err != nil {
		return err
	}

	r.servers[failing].Set(testserver.Behaviour{})
	if healed := time.Now(); !opened.Until.IsZero() && !healed.Before(opened.Until) {
		return fmt.Errorf("this machine is too busy for the demo: b2 was to be healed before its circuit half-opened, and was %s later", healed.Sub(opened.Until))
	}
	r.begin(Healing, time.Now())
	half, err := r.await(ctx, b2, "half-open", opened.At)
	if err != nil {
		return err
	}
	r.enter(HalfOpen, half)
	closed, err := r.await(ctx, b2, "closed", half.At)
	if err != nil {
		return err
	}
	r.enter(Closed, closed)
	return r.linger(ctx, r.Script.Closed)
}

// begin begins a phase and shows it.
func (r *run) begin(p Phase, at time.Time) {
	r.recorder.begin(p, at)
	r.View.Say(fmt.Sprintf("%-9s  %s", p, phaseSays[p]))
}

// enter begins the phase that a transition leads to, and shows its reason.
func (r *run) enter(p Phase, t agentproc.Transition) {
	r.recorder.begin(p, t.At)
	r.View.Say(fmt.Sprintf("%-9s  %s (%s)", p, phaseSays[p], t.Why()))
}

// startLoad starts clients that keep their connections and clients that do not.
func (r *run) startLoad(ctx context.Context, targets []netip.AddrPort) {
	ctx, r.stopLoad = context.WithCancel(ctx)
	kept := loadgen.Load{
		Dial: r.star.Client.DialContext, Targets: targets, Workers: keptWorkers, Rate: keptRate,
		Timeout: 5 * time.Second, Done: r.recorder.done,
	}
	renewed := kept
	renewed.Workers, renewed.Rate, renewed.Every = newWorkers, newRate, 1
	for _, l := range []loadgen.Load{kept, renewed} {
		r.load.Go(func() {
			_ = l.Run(ctx) // it fails only without targets
		})
	}
}

// frame is the time between two pictures.
const frame = 100 * time.Millisecond

// linger waits for d, and shows the load meanwhile.
func (r *run) linger(ctx context.Context, d time.Duration) error {
	return r.show(ctx, time.Now().Add(d), nil)
}

// await waits for a transition of the backend's circuit, and shows the load meanwhile.
func (r *run) await(ctx context.Context, backend netip.AddrPort, to string, after time.Time) (agentproc.Transition, error) {
	limit := r.Script.Open + r.Script.Patience
	deadline := time.Now().Add(limit)
	for {
		t, found, next := r.agent.Find(backend.String(), to, after)
		if found {
			return t, nil
		}
		if !time.Now().Before(deadline) {
			return t, fmt.Errorf("%w: the circuit of %s was not %s within %s", errStalled, backend, to, limit)
		}
		if err := r.show(ctx, deadline, next); err != nil {
			return t, err
		}
	}
}

// show shows the load until a moment, or until something happens.
func (r *run) show(ctx context.Context, until time.Time, happens <-chan struct{}) error {
	end := time.NewTimer(time.Until(until))
	defer end.Stop()
	frames := time.NewTicker(frame)
	defer frames.Stop()
	for {
		select {
		case <-end.C:
			return nil
		case <-happens:
			return nil
		case <-frames.C:
			r.View.Show(r.recorder.snapshot(time.Now(), r.Script, r.agent.Transitions()))
		case <-r.agent.Ended():
			return r.agent.Complaint("the agent ended in mid-demo")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// tearDown removes all that setUp has created, the clients first.
func (r *run) tearDown() error {
	var errs []error
	if r.stopLoad != nil {
		r.stopLoad()
		r.load.Wait()
	}
	if r.agent != nil {
		errs = append(errs, r.agent.Stop())
	}
	for _, s := range r.servers {
		errs = append(errs, s.Close())
	}
	if r.removePolicy != nil {
		errs = append(errs, r.removePolicy())
	}
	if r.star != nil {
		errs = append(errs, r.star.Close())
	}
	return errors.Join(errs...)
}
