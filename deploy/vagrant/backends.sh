#!/usr/bin/env bash
# Starts three backends on ADDRESS, ports 8081 to 8083; ports 9081 to 9083 control how
# they answer. They run as services of this machine, or, with a second argument
# "foreground", as children that it waits for. The program comes from TREE (/vagrant).
set -euo pipefail
address=$1 how=${2:-service}
workload=${TREE:-/vagrant}/bin/workload

for i in 1 2 3; do
    server=("$workload" serve -name "backend-$i" -listen "$address:808$i" -control "$address:908$i")
    if [ "$how" = service ]; then
        systemctl stop "backend-$i" 2>/dev/null || true # not started before
        systemd-run --quiet --unit="backend-$i" --property=Restart=always "${server[@]}"
    else
        "${server[@]}" &
    fi
done
wait
