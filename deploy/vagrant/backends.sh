#!/usr/bin/env bash
# Starts three backends on ADDRESS, ports 8081 to 8083, that are told on 9081 to 9083
# how to answer: as services where there is systemd, else as children that it waits
# for. The programs are those of the tree this file is in (/vagrant in the machine).
set -euo pipefail
address=$1
workload=${TREE:-/vagrant}/bin/workload

for i in 1 2 3; do
    server=("$workload" serve -name "backend-$i" -listen "$address:808$i" -control "$address:908$i")
    if [ -d /run/systemd/system ]; then
        systemctl stop "backend-$i" 2>/dev/null || true # not started before
        systemd-run --quiet --unit="backend-$i" --property=Restart=always "${server[@]}"
    else
        "${server[@]}" &
    fi
done
wait
