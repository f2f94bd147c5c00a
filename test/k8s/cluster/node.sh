#!/usr/bin/env bash
# One Kubernetes node: containerd, kubelet and kube-proxy in namespaces of their own,
# as the first process of a PID namespace, so that its end ends all of them. The
# network namespace is the client's. The environment says the rest:
#
#   NODE NODE_IP POD_CIDR   its name, its address and that of its pods
#   DIR                     for its files: kubelet.kubeconfig, proxy.kubeconfig, ca.crt are there
#   BINARIES                folder of scripts/kube-binary.sh
#   IMAGES                  image tars, separated by spaces
#   PROXY_MODE              nftables or iptables
set -euo pipefail

if [ "${INSIDE:-}" != 1 ]; then
    # A cgroup of its own, which the namespace then shows as the root.
    cgroup2=$(findmnt -n -o TARGET -t cgroup2 | head -n 1)
    cgroup=$cgroup2/cbagent-test-$$
    mkdir "$cgroup"
    echo "$cgroup" >"$DIR/cgroup"
    echo $$ >"$cgroup/cgroup.procs"
    INSIDE=1 exec unshare --mount --pid --cgroup --uts --ipc --fork --kill-child --mount-proc --propagation private "$0"
fi

hostname "$NODE"

# This network namespace's sysfs, and one cgroup2 as on a production node. Its root
# may hold no process where controllers are handed down, so this one moves to a leaf.
umount --recursive --lazy /sys
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mkdir /sys/fs/cgroup/node
echo $$ >/sys/fs/cgroup/node/cgroup.procs
for controller in $(</sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done
runc=$(command -v runc)
grep -qw memory /sys/fs/cgroup/cgroup.controllers || runc=$DIR/runc-without-limits

mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/containerd "$DIR"/{containerd,kubelet,ipam,cni,log,varlog,plugins,sysctl}
mount --bind "$DIR/varlog" /var/log
# Wherever its root is, kubelet has a socket for device plugins here: one of two nodes would find it taken.
mkdir -p /var/lib/kubelet
mount -t tmpfs tmpfs /var/lib/kubelet

# kubelet and kube-proxy write settings that all of the machine shares: they get
# files that look like them.
for setting in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops \
    kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
    [ -e /proc/sys/$setting ] || continue
    cat /proc/sys/$setting >"$DIR/sysctl/${setting//\//.}"
    mount --bind "$DIR/sysctl/${setting//\//.}" /proc/sys/$setting
done
mount --make-rshared /

cat >"$DIR/cni/10-bridge.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "test", "plugins": [{
  "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
  "ipam": {"type": "host-local", "dataDir": "$DIR/ipam",
           "ranges": [[{"subnet": "$POD_CIDR"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
JSON

cat >"$DIR/containerd.toml" <<TOML
version = 2
root = "$DIR/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pause:1"
restrict_oom_score_adj = true # for machines without CAP_SYS_RESOURCE
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "$runc"
SystemdCgroup = false
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "$DIR/cni"
TOML
containerd -c "$DIR/containerd.toml" >"$DIR/log/containerd.log" 2>&1 &
for _ in {1..300}; do
    ctr version >/dev/null 2>&1 && break
    sleep 0.1
done
for image in $IMAGES; do
    ctr -n k8s.io images import --all-platforms "$image"
done >"$DIR/log/images.log" 2>&1

: >"$DIR/resolv.conf"
cat >"$DIR/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
enforceNodeAllocatable: []
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $DIR/ca.crt}}
authorization: {mode: Webhook}
failSwapOn: false
healthzBindAddress: 127.0.0.1
resolvConf: $DIR/resolv.conf
volumePluginDir: $DIR/plugins
clusterDomain: cluster.local
evictionHard: {memory.available: "50Mi", nodefs.available: "0%", imagefs.available: "0%", nodefs.inodesFree: "0%"}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
syncFrequency: 5s
nodeStatusUpdateFrequency: 4s
volumeStatsAggPeriod: -1s
YAML
"$BINARIES/kubelet" --config="$DIR/kubelet.yaml" --kubeconfig="$DIR/kubelet.kubeconfig" \
    --hostname-override="$NODE" --node-ip="$NODE_IP" \
    --root-dir="$DIR/kubelet" --cert-dir="$DIR/kubelet/pki" >"$DIR/log/kubelet.log" 2>&1 &

cat >"$DIR/proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: $PROXY_MODE
clusterCIDR: 10.244.0.0/16
hostnameOverride: $NODE
clientConnection: {kubeconfig: $DIR/proxy.kubeconfig}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
YAML
"$BINARIES/kube-proxy" --config="$DIR/proxy.yaml" >"$DIR/log/kube-proxy.log" 2>&1 &

wait -n
echo "a component of $NODE has ended: its log is in $DIR/log" >&2
exit 1
