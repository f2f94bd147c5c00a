#!/usr/bin/env bash
# Installs what the work on this tree needs, from the distribution's own packages.
#
#   scripts/setup.sh GROUP...     groups: test zoo generate lint packages cluster kernels bench; none means all but bench
#
# What is there already is left alone, so it may run as often as one likes.
set -euo pipefail

# Debian keeps nft, ip and their like out of an ordinary user's PATH.
PATH=$PATH:/usr/sbin:/sbin

# Of each group: what must be there (a command, or a file by its whole path) and
# the package that brings it.
declare -A groups=(
    [test]="ip=iproute2 nft=nftables gcc=gcc /usr/include/stdlib.h=libc6-dev"
    [zoo]="node=nodejs npm=npm javac=default-jdk-headless curl=curl nginx=nginx nghttp=nghttp2-client h2load=nghttp2-client
           nghttpd=nghttp2-server /usr/lib/python3/dist-packages/grpc=python3-grpcio
           /usr/lib/python3/dist-packages/h2=python3-h2 /usr/lib/python3/dist-packages/httpx=python3-httpx"
    [generate]="clang-19=clang-19 llvm-strip-19=llvm-19 /usr/include/bpf/bpf_helpers.h=libbpf-dev
                /usr/include/linux/bpf.h=linux-libc-dev"
    [lint]="shellcheck=shellcheck clang-format-19=clang-format-19"
    [monitoring]="promtool=prometheus prometheus=prometheus chromium=chromium"
    [packages]="systemd-analyze=systemd dpkg-deb=dpkg rpm=rpm jq=jq"
    [cluster]="containerd=containerd runc=runc /usr/lib/cni/bridge=containernetworking-plugins
               iptables=iptables nft=nftables ip=iproute2 openssl=openssl curl=curl jq=jq"
    [kernels]="qemu-system-x86_64=qemu-system-x86 cpio=cpio xz=xz-utils dpkg-deb=dpkg modprobe=kmod
               nft=nftables ip=iproute2 /usr/share/keyrings/debian-archive-keyring.gpg=debian-archive-keyring"
    [bench]="haproxy=haproxy nginx=nginx nft=nftables ip=iproute2"
    [vagrant]="vagrant=vagrant"
)

die() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

is_there() {
    case $1 in
    /*) [ -e "$1" ] ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

# missing prints the packages of the named groups that are not installed.
missing() {
    local group need
    for group in "$@"; do
        for need in ${groups[$group]}; do
            is_there "${need%=*}" || echo "${need#*=}"
        done
    done | sort -u
}

[ $# -gt 0 ] || set -- test zoo generate lint packages cluster kernels monitoring
for group in "$@"; do
    [ -n "${groups[$group]:-}" ] || die "no group $group: there are ${!groups[*]}"
done

is_there go || die "Go is missing: install Go $(sed -n 's/^go //p' "$(dirname "$0")/../go.mod") or newer (https://go.dev/dl)"

mapfile -t packages < <(missing "$@")
[ ${#packages[@]} -gt 0 ] || exit 0

is_there apt-get || die "this machine has no apt-get: install what gives you ${packages[*]}"
if [ "$(id -u)" = 0 ]; then
    root=()
elif is_there sudo; then
    root=(sudo)
else
    die "to install ${packages[*]} takes root, and there is no sudo: as root run $0 $*"
fi

echo "setup: installing ${packages[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() {
    "$@" >"$log" 2>&1 </dev/null || {
        tail -n 30 "$log" >&2
        die "failed: $*"
    }
}
quietly "${root[@]}" apt-get update

for package in "${packages[@]}"; do
    grep -q 'Candidate: [^(]' <<<"$(apt-cache policy "$package")" && continue
    case $package in
    clang-19 | llvm-19)
        die "this distribution has no $package. It is in Debian 12 and newer and in Ubuntu 24.04 and newer" \
            "(there: add-apt-repository universe); apt.llvm.org has it for others." \
            "Only 'make generate' needs it: 'make build', 'make demo' and 'make test' work without."
        ;;
    *) die "this distribution has no package $package" ;;
    esac
done

quietly "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"

mapfile -t packages < <(missing "$@")
[ ${#packages[@]} -eq 0 ] || die "installed, and yet not found: what ${packages[*]} should have brought"
