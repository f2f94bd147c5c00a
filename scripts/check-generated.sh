#!/usr/bin/env bash
# Fails when `make generate` changes a file: when a committed BPF object, or the
# Go beside it, is not what its source compiles to.
set -euo pipefail
cd "$(dirname "$0")/.."

sums() {
    git ls-files --cached --others --exclude-standard -z | sort -zu | xargs -0 sha256sum 2>/dev/null || true
}

before=$(sums)
go generate ./...
after=$(sums)
if [ "$before" != "$after" ]; then
    echo "generated files differ from their sources: run 'make generate' and commit these:" >&2
    diff <(echo "$before") <(echo "$after") | sed -n 's/^[<>] [0-9a-f]*  //p' | sort -u >&2
    exit 1
fi
