#!/usr/bin/env bash
# Makes bin/*.deb and bin/*.rpm for ${GOARCH:-this machine}.
set -euo pipefail
cd "$(dirname "$0")/.."
ARCH=${GOARCH:-$(go env GOARCH)}
described=$(scripts/version.sh)
# Without a tag there is only a commit, which is no version to a package manager.
case $described in
v[0-9]*) VERSION=${described#v} ;;
*) VERSION=0.0.0~$described ;;
esac
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export ARCH VERSION SOURCE_DATE_EPOCH

GOARCH=$ARCH VERSION=$described scripts/build.sh bin/package/cbagent
unset GOARCH # what follows runs here
cbagent() { go run -ldflags "-X main.version=$described" ./cmd/cbagent "$@"; }
cbagent man bin/package/man
gzip -9nf bin/package/man/*.8
for shell in bash zsh fish; do
    cbagent completion $shell >bin/package/completion.$shell
done
for kind in deb rpm; do
    go tool -modfile=tools/go.mod nfpm package --config deploy/packages/nfpm.yaml --packager "$kind" --target bin/
done
rm -r bin/package
