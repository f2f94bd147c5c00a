#!/usr/bin/env bash
# scripts/image.sh NAME[:TAG] OUT.tar [BINARY]: an OCI image as a tar that
# containerd, podman and skopeo take (ctr images import, podman load, skopeo copy
# oci-archive:OUT.tar ...). One layer, one static binary, made without a builder;
# the same commit gives the same bytes.
#
# BINARY is the agent, built for ${GOARCH:-this machine}, if not given.
set -euo pipefail
[ $# -ge 2 ] || { echo "image: NAME[:TAG] OUT.tar [BINARY]" >&2; exit 2; }
name=$1 out=$(realpath -m "$2") binary=${3:-}
[ -z "$binary" ] || binary=$(realpath "$binary")
cd "$(dirname "$0")/.."

arch=${GOARCH:-$(go env GOARCH)}
version=$(scripts/version.sh)
commit=$(git rev-parse HEAD 2>/dev/null || echo unknown)
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
tag=${name##*:}
if [ "$tag" = "$name" ] || [[ $tag == */* ]]; then
    tag=$version
    name=$name:$version
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022
mkdir -p "$work/root" "$work/oci/blobs/sha256"
if [ -z "$binary" ]; then
    binary=$work/cbagent
    GOARCH=$arch VERSION=$version scripts/build.sh "$binary"
fi
install -m 555 "$binary" "$work/root/$(basename "$binary")"
[ ! -e LICENSE ] || install -m 444 LICENSE "$work/root/LICENSE"
[ ! -e bpf/LICENSE ] || install -m 444 bpf/LICENSE "$work/root/LICENSE.bpf"

archive() { # FOLDER OUT
    tar --sort=name --format=gnu --mtime="@$epoch" --owner=0 --group=0 --numeric-owner -C "$1" -cf "$2" .
}

# put moves FILE among the blobs and prints its descriptor's digest and size.
put() { # FILE
    local digest size
    digest=$(sha256sum "$1" | cut -d' ' -f1)
    size=$(stat -c %s "$1")
    mv "$1" "$work/oci/blobs/sha256/$digest"
    echo "\"digest\":\"sha256:$digest\",\"size\":$size"
}

archive "$work/root" "$work/layer"
layer_digest=sha256:$(sha256sum "$work/layer" | cut -d' ' -f1)
layer=$(put "$work/layer")

created=$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)
cat >"$work/config" <<JSON
{"created":"$created","architecture":"$arch","os":"linux",
 "config":{"User":"65532:65532","Entrypoint":["/$(basename "$binary")"],"Env":["PATH=/"],"Labels":{
  "org.opencontainers.image.title":"cbagent",
  "org.opencontainers.image.description":"eBPF-assisted circuit breaker for a node",
  "org.opencontainers.image.source":"https://github.com/cbagent/cbagent",
  "org.opencontainers.image.licenses":"Apache-2.0",
  "org.opencontainers.image.version":"$version",
  "org.opencontainers.image.revision":"$commit"}},
 "rootfs":{"type":"layers","diff_ids":["$layer_digest"]},
 "history":[{"created":"$created","created_by":"scripts/image.sh"}]}
JSON
config=$(put "$work/config")

oci=application/vnd.oci.image
cat >"$work/manifest" <<JSON
{"schemaVersion":2,"mediaType":"$oci.manifest.v1+json",
 "config":{"mediaType":"$oci.config.v1+json",$config},
 "layers":[{"mediaType":"$oci.layer.v1.tar",$layer}]}
JSON
manifest=$(put "$work/manifest")

cat >"$work/oci/index.json" <<JSON
{"schemaVersion":2,"mediaType":"$oci.index.v1+json","manifests":[{"mediaType":"$oci.manifest.v1+json",$manifest,
 "platform":{"os":"linux","architecture":"$arch"},
 "annotations":{"io.containerd.image.name":"$name","org.opencontainers.image.ref.name":"$tag"}}]}
JSON
echo '{"imageLayoutVersion":"1.0.0"}' >"$work/oci/oci-layout"
mkdir -p "$(dirname "$out")"
archive "$work/oci" "$out"
echo "$name $out"
