#!/bin/sh
# Called with "remove" (deb) or 0 (rpm) when the package is removed.
set -e
case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac
if [ -d /run/systemd/system ]; then
    systemctl disable --now cbagent.service || true # it may not run
fi
/usr/bin/cbagent detach || true # nothing may be attached
