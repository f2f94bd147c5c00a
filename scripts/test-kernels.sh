#!/usr/bin/env bash
# Boots Debian's kernels under qemu and runs the tests of the datapath on each.
#
#   scripts/test-kernels.sh [KERNEL...]     6.1 and 6.12 if not given
#
# KERNEL is what follows "linux-image-" in the name of a Debian package (6.12-cloud-amd64),
# or the short form of one in the table below. The newest of its line is taken.
# PACKAGES are the Go packages to test, RUN is their -test.run.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

cache=${CBAGENT_CACHE:-$HOME/.cache/cbagent}/kernels
read -ra packages <<<"${PACKAGES:-./internal/netlab ./internal/loader ./test/e2e}"
# Of these packages only some tests: the others measure, or send more than an emulated
# machine carries.
declare -A only=([./test/e2e]='^(TestKilledAgentReleasesCallers|TestStoppedAgentDetaches|TestHalfOpenAdmitsExactlyItsCalls|TestHeadGetsNoBody|TestEveryKindOfFailureOpens)$/^(IPv4.*|lo.*|status|refused)$')
declare -A short=([6.1]=cloud-amd64 [6.12]=6.12-cloud-amd64)
[ $# -gt 0 ] || set -- 6.1 6.12

die() {
    printf 'test-kernels: %s\n' "$@" >&2
    exit 1
}

[ "$(uname -m)" = x86_64 ] || die "only x86_64 machines can run these kernels"

# fetch prints the path of the package that the name stands for at present.
fetch() { # KERNEL
    local meta package
    meta=linux-image-${short[$1]:-$1}
    package=$(apt-cache depends "$meta" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
    [ -n "$package" ] || package=$meta
    if ! compgen -G "$cache/${package}_*.deb" >/dev/null; then
        (cd "$cache" && apt-get -q -o APT::Sandbox::User=root download "$package" >&2) || die "apt-get download $package failed: see above"
    fi
    compgen -G "$cache/${package}_*.deb" | sort -V | tail -n 1
}

# with_libraries installs a program and the libraries that it is linked with.
with_libraries() { # PROGRAM ROOT [NAME]
    local file
    install -D "$(readlink -f "$1")" "$2${3:-$1}"
    ldd "$1" | grep -o '/[^ ]*' | while read -r file; do
        install -D "$(readlink -f "$file")" "$2$file"
    done
}

# pack makes an initramfs of a folder.
pack() { # FOLDER OUT
    (cd "$1" && find . | sort | cpio --quiet -o -H newc -R 0:0 | gzip -1) >"$2"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$cache" "$work/root/tests"

# What all kernels get: the tests, and the programs that they call.
CGO_ENABLED=0 go build -trimpath -o "$work/root/init" ./test/kernels/init
# Not this one: it has a latency in a bucket that is narrower than an emulated machine's delays.
slow='^TestLatencyBuckets$'
for package in "${packages[@]}"; do
    into=$work/root/tests/$(basename "$package")
    mkdir -p "$into"
    CGO_ENABLED=0 go test -c -o "$into/test" "$package"
    [ -e "$into/test" ] || die "$package has no tests"
    if [ -d "$package/testdata" ]; then
        cp -r "$package/testdata" "$into/"
    fi
    echo "-test.v -test.parallel=1 -test.timeout=${TIMEOUT:-10m} -test.skip=$slow -test.run=${RUN:-${only[$package]:-.}}" >"$into/flags"
done
scripts/build.sh "$work/root/cbagent"
for program in sh cat sleep nft ip modprobe; do
    with_libraries "$(command -v $program)" "$work/root" "/usr/sbin/$program"
done
ln -s usr/sbin "$work/root/sbin" # the kernel calls /sbin/modprobe
ln -s usr/sbin "$work/root/bin"
pack "$work/root" "$work/common.gz"

# boot runs the tests on one kernel, and fails if they did.
boot() { # KERNEL DEB FOLDER
    local tree=$3/modules modules release
    mkdir -p "$3/deb"
    dpkg-deb --fsys-tarfile "$2" | tar -x -C "$3/deb"
    modules=$(find "$3/deb" -path '*lib/modules/*' -prune -type d | head -n 1)
    release=$(basename "$modules")
    mkdir -p "$tree/lib/modules/$release/kernel/drivers"
    cp "$modules"/modules.{order,builtin,builtin.modinfo} "$tree/lib/modules/$release/"
    cp -r "$modules/kernel/"{net,lib,crypto} "$tree/lib/modules/$release/kernel/"
    cp -r "$modules/kernel/drivers/net" "$tree/lib/modules/$release/kernel/drivers/"
    depmod -b "$tree" "$release"
    pack "$tree" "$3/modules.gz"
    cat "$work/common.gz" "$3/modules.gz" >"$3/initrd"

    # Emulated, so that it runs where virtualisation cannot be nested.
    timeout "${BOOT_TIMEOUT:-1200}" qemu-system-x86_64 -nodefaults -no-user-config -display none -monitor none -serial stdio \
        -machine q35,accel="${ACCEL:-tcg}" -cpu max -smp 1 -m "${MEMORY:-1536}" -no-reboot \
        -kernel "$(find "$3/deb" -name 'vmlinuz-*' -type f | head -n 1)" -initrd "$3/initrd" \
        -append "console=ttyS0 panic=-1 quiet mitigations=off no_timer_check" </dev/null 2>&1 | tr -d '\r' >"$3/log" || true
    grep -q '^kernel-tests: passed$' "$3/log"
}

# All at once, a processor each.
declare -A machines=()
for kernel in "$@"; do
    deb=$(fetch "$kernel")
    mkdir "$work/$kernel"
    boot "$kernel" "$deb" "$work/$kernel" &
    machines[$kernel]=$!
done
failed=()
for kernel in "$@"; do
    result=passed
    wait "${machines[$kernel]}" || { result=FAILED && failed+=("$kernel"); }
    echo "=== $kernel"
    cat "$work/$kernel/log"
    echo "=== $kernel: $result after $SECONDS s"
done
[ ${#failed[@]} -eq 0 ] || die "failed on ${failed[*]}"
