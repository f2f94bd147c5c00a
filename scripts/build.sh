#!/usr/bin/env bash
# scripts/build.sh OUT: the agent as a static binary that is the same wherever it
# is built. GOOS, GOARCH and VERSION in the environment are heeded.
set -euo pipefail
out=$(realpath -m "$1")
cd "$(dirname "$0")/.."
version=$(scripts/version.sh)
CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=$version" -o "$out" ./cmd/cbagent
