#!/usr/bin/env bash
# Runs the tests with the build tag kube, which talk to a real kube-apiserver
# (test/k8s/controlplane). Arguments go to go test.
set -euo pipefail
cd "$(dirname "$0")/.."

CBAGENT_KUBE=$(scripts/kube-binary.sh)
export CBAGENT_KUBE
mapfile -t packages < <(git grep -l --untracked '^//go:build kube$' -- '*_test.go' | xargs -n1 dirname | sort -u | sed 's,^,./,')
go test -count=1 -tags kube "$@" "${packages[@]}"
