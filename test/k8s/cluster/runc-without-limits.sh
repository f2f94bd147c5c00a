#!/usr/bin/env bash
# runc for machines whose cgroup2 has no controllers (they belong to cgroup v1):
# takes the limits out of the container's configuration, which runc could not set.
set -euo pipefail
args=("$@")
for i in "${!args[@]}"; do
    if [ "${args[i]}" = --bundle ]; then
        config=${args[i + 1]}/config.json
        jq -c 'if .linux.resources then .linux.resources |= {devices} else . end' "$config" >"$config.new"
        mv "$config.new" "$config"
    fi
done
exec runc "$@"
