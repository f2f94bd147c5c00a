#!/usr/bin/env bash
# Installs the agent as a service of this host, or takes it away again:
#
#   scripts/install.sh install|uninstall     [DESTDIR=/stage] [PREFIX=/usr]
#
# A policy and flags that are there already stay. With DESTDIR nothing but files is
# touched: systemd is not told.
set -euo pipefail
cd "$(dirname "$0")/.."
dest=${DESTDIR:-} prefix=${PREFIX:-/usr}
binary=$prefix/bin/cbagent
unit=/etc/systemd/system/cbagent.service

if [ -z "$dest" ] && [ "$(id -u)" != 0 ]; then
    echo "install: to put a service on this host takes root: sudo make $1" >&2
    exit 1
fi

systemd() {
    [ -z "$dest" ] && [ -d /run/systemd/system ] || return 0
    systemctl "$@"
}

keep() { # SOURCE TARGET MODE: installs what is not there yet
    [ -e "$dest$2" ] || install -D -m "$3" "$1" "$dest$2"
}

case ${1:-} in
install)
    [ -x bin/cbagent ] || { echo "install: no bin/cbagent: run make build first" >&2; exit 1; }
    install -D -m 755 bin/cbagent "$dest$binary"
    install -d "$dest$(dirname $unit)"
    sed "s,/usr/bin/cbagent,$binary,g" deploy/systemd/cbagent.service >"$dest$unit"
    keep deploy/policy.yaml /etc/cbagent/policy.yaml 644
    keep deploy/systemd/cbagent.default /etc/default/cbagent 644
    systemd daemon-reload
    cat <<TEXT
installed. Write your policies into /etc/cbagent/policy.yaml, then:
  systemctl enable --now cbagent
TEXT
    ;;
uninstall)
    systemd disable --now cbagent || true # it may not run
    if [ -z "$dest" ] && [ -x "$binary" ]; then
        "$binary" detach || true # nothing may be attached
    fi
    rm -f "$dest$binary" "$dest$unit"
    systemd daemon-reload
    echo "uninstalled; /etc/cbagent and /etc/default/cbagent stay"
    ;;
*)
    echo "install: say install or uninstall" >&2
    exit 2
    ;;
esac
