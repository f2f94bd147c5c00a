#!/usr/bin/env bash
# Installs the deb on a host with a real systemd, made of namespaces and an overlay of
# this machine's files, and runs it there: test/systemd/check.sh says what is checked.
# The backends are on a host of their own, as the Vagrantfile has them. Needs root.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin
tree=$PWD
if [ "$(id -u)" != 0 ]; then
    echo "test-systemd: a host on this machine takes root" >&2
    exit 1
fi

rm -f bin/*.deb
scripts/packages.sh >/dev/null
make -s build workload
BOARD=$(mktemp -d)
export BOARD TREE=$tree
agent='' backends=''
stop() {
    [ -z "$agent" ] || kill -KILL "$agent" 2>/dev/null || true
    [ -z "$backends" ] || kill -KILL -- "-$backends" 2>/dev/null || true
    for _ in {1..50}; do
        if [ ! -e "$BOARD/cgroup" ] || [ ! -d "$(<"$BOARD/cgroup")" ]; then
            break
        fi
        find "$(<"$BOARD/cgroup")" -depth -type d -exec rmdir {} + 2>/dev/null || true
        sleep 0.1
    done
    rm -rf "$BOARD"
}
trap stop EXIT

test/systemd/host.sh >"$BOARD/host.log" 2>&1 </dev/null &
agent=$!
setsid unshare --net bash -c 'until ip link show eth1 >/dev/null 2>&1; do sleep 0.05; done
    ip link set lo up && ip addr add 192.168.56.20/24 dev eth1 && ip link set eth1 up
    exec deploy/vagrant/backends.sh 192.168.56.20 foreground' >"$BOARD/backends.log" 2>&1 </dev/null &
backends=$!
disown "$agent" "$backends" # their end is ours to tell

# The first process of the agent's host is the child of the one that made it.
for _ in {1..200}; do
    first=$(pgrep -P "$agent" || true)
    if [ -n "$first" ] && [ "$(cat "/proc/$first/comm")" = systemd ]; then
        break
    fi
    sleep 0.05
done
inside() { nsenter -t "$first" --mount --root --pid --uts --ipc --cgroup --net --wd -- "$@"; }
ip link add name eth1 netns "$first" type veth peer name eth1 netns "$backends"
inside ip addr add 192.168.56.10/24 dev eth1
inside ip link set eth1 up
for _ in {1..100}; do
    state=$(inside systemctl is-system-running 2>/dev/null || true)
    [[ $state != running && $state != degraded ]] || break
    sleep 0.1
done
inside "$tree/test/systemd/check.sh" "$(realpath bin/*.deb)" "$tree" || { cat "$BOARD"/*.log; exit 1; }
