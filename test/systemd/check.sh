#!/usr/bin/env bash
# On the host of host.sh: the deb is installed, run, hung, upgraded and removed. The
# arguments are the deb and the tree.
set -euo pipefail
cd /
deb=$1 tree=$2

fail() {
    echo "test-systemd: $*" >&2
    systemctl status cbagent --no-pager >&2 || true
    journalctl -u cbagent --no-pager -n 40 >&2 || true
    exit 1
}
property() { systemctl show cbagent -p "$1" --value; }
eventually() { # WHAT COMMAND...
    local what=$1
    shift
    for _ in {1..200}; do
        "$@" && return
        sleep 0.1
    done
    fail "not within 20 s: $what"
}
is_up() { systemctl is-active -q cbagent; }
said() { journalctl -u cbagent --no-pager | grep -c "$1" || true; } # how often
says_more() { [ "$(said msg=ready)" -gt "$1" ]; }
is_other() { is_up && [ "$(property MainPID)" != "$1" ]; }

dpkg -i "$deb" >/dev/null
systemctl is-enabled -q cbagent && fail "installing the package enabled the service"
cp "$tree/deploy/vagrant/policy.yaml" /etc/cbagent/policy.yaml
systemctl enable -q --now cbagent || fail "the service does not start"
eventually "the journal has the agent's log" says_more 0
[ "$(property StatusText)" = "circuits are in force" ] || fail "status text is '$(property StatusText)'"
echo "ok: installed, enabled, ready by sd_notify, logs in the journal"

# CAP_NET_ADMIN is bit 12, CAP_PERFMON 38, CAP_BPF 39.
caps=$(sed -n 's/^CapEff:\s*//p' "/proc/$(property MainPID)/status")
[ "$caps" = 000000c000001000 ] || fail "capabilities are $caps"
grep -q '^Seccomp:\s*2' "/proc/$(property MainPID)/status" || fail "no system call filter"
echo "ok: runs with three capabilities and a system call filter"

"$tree/deploy/vagrant/demo.sh" || fail "the demo of the Vagrantfile fails"
echo "ok: the demo of the Vagrantfile"

before=$(property MainPID)
kill -STOP "$before"
eventually "the watchdog replaces an agent that hangs" is_other "$before"
echo "ok: an agent that hangs is replaced"

before=$(property MainPID) ready=$(said msg=ready) taken=$(said 'took over from a former agent')
echo "# mine" >>/etc/cbagent/policy.yaml
dpkg -i "$deb" >/dev/null 2>&1
is_other "$before" || fail "an upgrade of the package does not replace the agent"
grep -qx '# mine' /etc/cbagent/policy.yaml || fail "an upgrade overwrites the policy"
eventually "the new agent is ready" says_more "$ready"
[ "$(said 'took over from a former agent')" -gt "$taken" ] || fail "the new agent does not take over the old one's circuits"
echo "ok: an upgrade replaces the agent, keeps policy and circuits"

dpkg -r cbagent >/dev/null 2>&1
is_up && fail "the service outlives its package"
[ ! -e /usr/bin/cbagent ] || fail "the binary outlives its package"
[ ! -e /sys/fs/bpf/cbagent ] || fail "pins outlive the package: $(find /sys/fs/bpf/cbagent | head -n 5)"
[ -e /etc/cbagent/policy.yaml ] || fail "removing the package removes the policy"
echo "ok: removed, with all that was pinned"

TREE=$tree "$tree/deploy/vagrant/agent.sh" >/dev/null || fail "the provisioning of the Vagrantfile fails"
eventually "the agent that Vagrant provisions is up" is_up
cd "$tree"
scripts/install.sh uninstall >/dev/null
is_up && fail "make uninstall leaves the service running"
for left in /usr/bin/cbagent /etc/systemd/system/cbagent.service /sys/fs/bpf/cbagent; do
    [ ! -e $left ] || fail "make uninstall leaves $left"
done
echo "ok: provisioned as in Vagrant, and uninstalled"
