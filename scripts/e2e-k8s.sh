#!/usr/bin/env bash
# Runs the end-to-end tests on a two-node Kubernetes cluster: the shipped image and
# manifests, as they are. Needs root. Arguments go to go test.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

if [ "$(id -u)" != 0 ]; then
    echo "e2e-k8s: a cluster on this machine takes root" >&2
    exit 1
fi

CBAGENT_KUBE=$(scripts/kube-binary.sh)
export CBAGENT_KUBE

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
make -s workload
cp bin/workload "$work/workload"
cp bin/workload "$work/pause" # which sleeps when called by this name
scripts/image.sh localhost/workload:1 "$work/workload.tar" "$work/workload"
scripts/image.sh localhost/pause:1 "$work/pause.tar" "$work/pause"
scripts/image.sh ghcr.io/cbagent/cbagent:latest "$work/cbagent.tar"
scripts/image.sh ghcr.io/cbagent/cbagent:next "$work/next.tar"
export CBAGENT_IMAGES="$work/workload.tar $work/pause.tar $work/cbagent.tar $work/next.tar"

go test -count=1 -tags e2e -timeout 20m "$@" ./test/k8s/e2e
