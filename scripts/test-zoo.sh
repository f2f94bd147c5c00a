#!/usr/bin/env bash
# Builds the clients and servers of test/zoo to bin/zoo, and runs its tests. Arguments go to go test.
set -euo pipefail
cd "$(dirname "$0")/.."

peers=test/zoo/peers
mkdir -p bin/zoo
(cd $peers && CGO_ENABLED=0 go build -trimpath -buildvcs=false -o ../../../bin/zoo/peers .)
javac -d bin/zoo $peers/Client.java
# The copy of the lock file that was installed last says whether anything has changed.
if ! cmp -s $peers/package-lock.json bin/zoo/installed; then
    cp $peers/package.json $peers/package-lock.json bin/zoo/
    npm ci --prefix bin/zoo --ignore-scripts --no-audit --no-fund --loglevel=error
    cp $peers/package-lock.json bin/zoo/installed
fi

exec scripts/test.sh -tags zoo "$@" ./test/zoo
