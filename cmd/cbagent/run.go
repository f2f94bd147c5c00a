package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os/signal"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"

	"github.com/cbagent/cbagent/internal/agent"
	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/cgroup"
	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/ifaces"
	"github.com/cbagent/cbagent/internal/kubeevents"
	"github.com/cbagent/cbagent/internal/loader"
	"github.com/cbagent/cbagent/internal/policy"
	"github.com/cbagent/cbagent/internal/serve"
	"github.com/cbagent/cbagent/internal/systemd"
	"github.com/cbagent/cbagent/internal/tables"
	"github.com/cbagent/cbagent/internal/view"
)

type runOptions struct {
	policyPath string
	configMap  string
	kubeconfig string
	interfaces []string
	uplinks    []string
	lease      time.Duration
	idle       time.Duration
	nodeName   string
	podsCgroup string
	logFormat  string
	logLevel   string
	datapath   loader.Options
	learned    int
	events     int
	stateDir   string
	xdp        string
	atEntry    bool
	hold       bool
	connect    string
	lookup     bool
	metrics    string
	anyMetrics bool // the address is the default
	socket     string
	group      string
	circuits   int
}

func newRunCommand(e *env) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run --policy PATH --interface NAME...",
		Short: "Run the agent in the foreground",
		Long: "Run attaches to interfaces, watches the flows to the backends that the policies name, and rejects clients\n" +
			"from those that fail, until it gets SIGTERM or SIGINT. Then it detaches; with\n" +
			"--bpffs it leaves everything in force for the agent that comes after, for at most --lease: see cbagent detach.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.anyMetrics = !cmd.Flags().Changed("metrics-address")
			log, err := newLog(e, o.logFormat, o.logLevel)
			if err := errors.Join(o.validate(), err); err != nil {
				writeEnd(endMessagePath, err)
				return err
			}
			if e.global {
				log.takeOver()
			}
			err = runAgent(cmd.Context(), log, o)
			if err != nil {
				writeEnd(endMessagePath, err)
			}
			log.end(err)
			return reported(err)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.policyPath, "policy", "", "policy `file`, or a directory of *.yaml")
	f.StringVar(&o.configMap, "policy-configmap", "", "`NAMESPACE/NAME` of a ConfigMap whose *.yaml are the policies, instead of --policy")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "`file` that tells how to reach the Kubernetes API (default: the pod's service account)")
	f.StringArrayVar(&o.interfaces, "interface", nil, "interface `name` or glob to attach to, or auto; may be given again")
	f.StringArrayVar(&o.uplinks, "uplink", nil, "`name` or glob of an interface that leads to other nodes (default: those with a default route, and tunnels)")
	f.DurationVar(&o.lease, "lease", 10*time.Second, "how long circuits stay open without a living agent (1s..1h)")
	f.DurationVar(&o.idle, "flow-idle", 2*time.Hour+15*time.Minute, "forget connections that were silent so long (1m or more)")
	f.StringVar(&o.nodeName, "node-name", "", "Kubernetes `name` of this node")
	f.StringVar(&o.podsCgroup, "pods-cgroup", cgroup.Auto, "`directory` of the cgroup v2 of this node's pods, by which the node's own checks of them are known; auto: the kubelet's, with --node-name; none")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.datapath.PinPath, "bpffs", "", "`directory` of a BPF file system, such as /sys/fs/bpf/cbagent, where programs and state outlive the agent")
	f.StringVar(&o.stateDir, "state-dir", "/run/cbagent", "`directory` for what a restart must not lose: the last events and, with --bpffs, the state of circuits")
	f.StringVar(&o.xdp, "xdp", "auto", "XDP on uplinks, for inbound policies that reset or drop: auto (not on veths), native, generic or off")
	f.BoolVar(&o.atEntry, "reject-at-entry", true, "reject clients of a backend's own address where they enter the node, before its firewall and routing, not where they leave it")
	f.BoolVar(&o.hold, "neighbour-hold", true, "while a circuit is open whose backend does not answer ARP or neighbour discovery, hold its entry, so that host processes are rejected at once and not after 3s")
	f.StringVar(&o.connect, "connect-cgroup", "", "`directory` of a cgroup v2 whose processes are rejected at connect() by policies that reset")
	f.BoolVar(&o.lookup, "sk-lookup", false, "also reject connections that NAT sends to listeners of this host (policies that reset)")
	f.BoolVar(&o.datapath.Clsact, "clsact", false, "attach with clsact filters even where the kernel has tcx")
	f.IntVar(&o.datapath.Circuits, "max-circuits", 16384, "backends and other circuits that fit")
	f.IntVar(&o.datapath.Policies, "max-policies", 2048, "policies that fit, two for each while it is reloaded")
	f.IntVar(&o.datapath.Answers, "max-answers", 12288, "different answers to rejected clients that fit")
	f.IntVar(&o.datapath.Flows, "max-flows", 262144, "connections that are followed at once")
	f.IntVar(&o.events, "max-events", 32768, "events that may wait for the agent; those beyond are known by number only")
	f.StringVar(&o.metrics, "metrics-address", "127.0.0.1:9464", "`ADDRESS:PORT` of /metrics, /healthz, /readyz and the page; empty: none")
	f.StringVar(&o.socket, "control-socket", control.DefaultSocket, "`path` of the socket through which cbagent status and its like speak to the agent; empty: none")
	f.StringVar(&o.group, "control-group", "", "`group` whose members may use the control socket besides root")
	f.IntVar(&o.circuits, "metrics-circuits", 10000, "circuits with series of their own in /metrics; with more, the largest policies are summed")
	f.IntVar(&o.learned, "max-learned", 1024, "backends that each policy may learn from traffic")
	return cmd
}

func (o *runOptions) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(o.policyPath != "" || o.configMap != "", "--policy: name a file or a directory, or a ConfigMap with --policy-configmap")
	check(o.policyPath == "" || o.configMap == "", "--policy and --policy-configmap: only one of them")
	if o.configMap != "" {
		_, err := parseConfigMapRef(o.configMap)
		errs = append(errs, err)
	}
	check(len(o.interfaces) > 0, "--interface: name at least one interface, a glob, or auto")
	check(o.lease >= time.Second && o.lease <= time.Hour, "--lease: must be between 1s and 1h, got %s", o.lease)
	check(o.idle >= time.Minute, "--flow-idle: must be 1m or more, got %s", o.idle)
	check(slices.Contains([]string{"auto", "native", "generic", "off"}, o.xdp), "--xdp: must be auto, native, generic or off, got %q", o.xdp)
	check(o.logFormat == "text" || o.logFormat == "json", "--log-format: must be text or json, got %q", o.logFormat)
	for flag, n := range map[string]int{
		"--max-circuits": o.datapath.Circuits, "--max-policies": o.datapath.Policies, "--max-answers": o.datapath.Answers,
		"--max-flows": o.datapath.Flows, "--max-learned": o.learned, "--metrics-circuits": o.circuits, "--max-events": o.events,
	} {
		check(n >= 16 && n <= 1<<22, "%s: must be between 16 and %d, got %d", flag, 1<<22, n)
	}
	spec := ifaces.Spec{Attach: o.interfaces, Uplinks: o.uplinks}
	if len(o.interfaces) > 0 {
		errs = append(errs, spec.Validate())
	}
	return errors.Join(errs...)
}

// unpinned is logged at the start of an agent whose programs and maps do not outlive it.
const unpinned = "without --bpffs a restart of the agent closes all circuits; --bpffs /sys/fs/bpf/cbagent keeps them"

func runAgent(ctx context.Context, log *agentLog, o runOptions) error {
	logger := log.Logger
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()

	o.datapath.Ring = tables.RingFor(o.events)
	if o.datapath.PinPath == "" {
		logger.Warn(unpinned)
	}

	kube, err := kubeClient(o.kubeconfig, o.configMap != "" || o.kubeconfig != "")
	if err != nil {
		return err
	}
	updates, err := o.policies(ctx, logger, kube)
	if err != nil {
		return err
	}
	notifier, err := systemd.NewNotifier()
	if err != nil {
		return err
	}
	logged := func(err error) {
		if err != nil {
			logger.Warn("cannot notify the service manager", "error", err)
		}
	}
	lost := map[string]func() uint64{view.SinkLog: log.queue.Dropped}
	var happened func(breaker.Event, []discovery.Backend)
	if kube != nil {
		recorder := kubeevents.New(ctx, kube, o.nodeName, logger)
		defer recorder.Close()
		happened = notifyKubernetes(recorder)
		lost[view.SinkKubernetes] = recorder.Dropped
	}
	cfg := agent.Config{
		Policies:   updates,
		Interfaces: ifaces.Spec{Attach: o.interfaces, Uplinks: o.uplinks},
		Lease:      o.lease, Idle: o.idle, Seed: rand.Uint64(), NodeName: o.nodeName, PodsCgroup: o.podsCgroup,
		Kube:     kube,
		Datapath: o.datapath, MaxLearned: o.learned, StateDir: o.stateDir,
		XDP: xdpMode(o.xdp), AtEntry: o.atEntry, NeighbourHold: o.hold, Connect: o.connect, Lookup: o.lookup,
		Version: version,
		Serve: serve.Options{
			MetricsAddress: o.metrics, MetricsOptional: o.anyMetrics, MetricsCircuits: o.circuits,
			ControlSocket: o.socket, ControlGroup: o.group,
		},
		Logger: logger, Lost: lost,
		Ready:    func() { logged(notifier.Ready("circuits are in force")) },
		Alive:    func() { logged(notifier.Alive(time.Now())) },
		Happened: happened,
	}
	if err := agent.Preflight(cfg); err != nil {
		return err
	}
	a, err := agent.New(cfg)
	if err != nil {
		return err
	}
	err = a.Run(ctx)
	logger.Info("stopping")
	logged(notifier.Stopping())
	return errors.Join(err, a.Close())
}

// policies returns the channel of the policies that the options name: the first ones and each change. Errors in a policy
// file are returned before anything is loaded.
func (o *runOptions) policies(ctx context.Context, log *slog.Logger, kube kubernetes.Interface) (<-chan policy.Update, error) {
	if o.configMap != "" {
		ref, err := parseConfigMapRef(o.configMap)
		if err != nil {
			return nil, err
		}
		return followConfigMap(ctx, log, kube, ref), nil
	}
	if _, err := policy.Load(o.policyPath); err != nil {
		return nil, err
	}
	return policy.Watch(ctx, o.policyPath)
}

func xdpMode(flag string) loader.XDPMode {
	if flag == "off" {
		return ""
	}
	return loader.XDPMode(flag)
}
