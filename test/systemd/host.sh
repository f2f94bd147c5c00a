#!/usr/bin/env bash
# A host for tests: this machine's files, of which every change is forgotten, and a
# systemd of its own as the first process of its namespaces, the network's among them.
# It ends with this script. BOARD is a folder that both sides see.
set -euo pipefail
here=$(dirname "$(realpath "$0")")

if [ "${INSIDE:-}" != 1 ]; then
    cgroup=$(findmnt -n -o TARGET -t cgroup2 | head -n 1)/cbagent-systemd-$$
    mkdir "$cgroup"
    echo "$cgroup" >"$BOARD/cgroup"
    echo $$ >"$cgroup/cgroup.procs"
    INSIDE=1 exec unshare --mount --pid --uts --ipc --cgroup --net --fork --kill-child --propagation private "$0"
fi

mount -t tmpfs tmpfs /mnt
mkdir /mnt/{upper,work,root}
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
cd /mnt/root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t bpf bpf sys/fs/bpf
mount -t tmpfs tmpfs run
mkdir -p ".$BOARD"
mount --rbind "$BOARD" ".$BOARD"

# Devices of its own, so that the journal does not put its socket among the machine's.
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/{pts,shm}
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done

hostname agent
ip link set lo up
rm -f etc/machine-id
# A host that boots empties /tmp, where the tree may be.
mkdir -p etc/tmpfiles.d
ln -sf /dev/null etc/tmpfiles.d/tmp.conf
systemd-id128 new >etc/machine-id
export container=cbagent-test
export SYSTEMD_UNIT_PATH=$here/units:/etc/systemd/system:/usr/lib/systemd/system:/lib/systemd/system
exec chroot . /lib/systemd/systemd --system --unit=default.target --log-target=journal
