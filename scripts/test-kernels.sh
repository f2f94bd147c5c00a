#!/usr/bin/env bash
# Boots Debian's kernels under qemu and runs the tests of the datapath on each.
#
#   scripts/test-kernels.sh [KERNEL...]     6.1, 6.12 and newest if not given
#
# KERNEL is what follows "linux-image-" in the name of a Debian package (6.12-cloud-amd64),
# with a suite before it if this machine's apt does not have it (trixie-backports/cloud-amd64),
# or the short form of one in the table below. The newest of its line is taken.
# PACKAGES are the Go packages to test, RUN is their -test.run, JOBS how many machines run at once.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

cache=${CBAGENT_CACHE:-$HOME/.cache/cbagent}/kernels
read -ra packages <<<"${PACKAGES:-./internal/lab/netlab ./internal/loader ./test/e2e}"
# Of these packages only some tests: the others measure, or send more than an emulated machine carries. What differs from
# kernel to kernel is the verifier, the helpers and the ways of attaching: the packet tables see the first two; of the networks
# and of the agent it is enough that each kind of hook carries a circuit through its life.
declare -A only=(
    [./internal/lab/netlab]='^(TestStar|TestTun|TestDeviceAndMTU|TestNFTChangesDestinationAndSource)$'
    [./test/e2e]='^(TestKilledAgentReleasesClients|TestHalfOpenAdmitsExactlyItsCalls|TestEveryKindOfFailureOpens)$/^(IPv4.tcx|lo.clsact|refused)$'
)
declare -A short=([6.1]=cloud-amd64 [6.12]=6.12-cloud-amd64 [newest]=trixie-backports/cloud-amd64)
[ $# -gt 0 ] || set -- newest 6.1 6.12 # the slowest first

die() {
    printf 'test-kernels: %s\n' "$@" >&2
    exit 1
}

[ "$(uname -m)" = x86_64 ] || die "only x86_64 machines can run these kernels"

# add_suite makes what apt needs for one suite of Debian's archive, beside that of the machine
# and from the same mirror. It prints the configuration's path.
add_suite() { # SUITE
    local dir=$cache/apt/$1 keys=/usr/share/keyrings/debian-archive-keyring.gpg mirror
    # shellcheck disable=SC2016 # apt replaces it
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Label: Debian' | sort -u | head -n 1)
    [ -n "$mirror" ] || die "no kernel of $1: this machine's apt knows no archive of Debian (has apt-get update run?)"
    [ -e "$keys" ] || die "no kernel of $1: there is no $keys to check it with (apt-get install debian-archive-keyring)"
    mkdir -p "$dir"/{state,cache}
    echo "deb [signed-by=$keys] $mirror $1 main" >"$dir/sources.list"
    cat >"$dir/apt.conf" <<-END
	Dir::Etc::sourcelist "$dir/sources.list";
	Dir::Etc::sourceparts "-";
	Dir::State "$dir/state";
	Dir::Cache "$dir/cache";
	Acquire::Languages "none";
	APT::Default-Release "";
	APT::Sandbox::User "root";
	APT::Update::Error-Mode "any";
	#clear APT::Update::Pre-Invoke;
	#clear APT::Update::Post-Invoke;
	#clear APT::Update::Post-Invoke-Success;
	END
    apt-get -q -c "$dir/apt.conf" update >&2 ||
        die "no kernel of $1: apt-get update failed, see above (keys missing? a newer debian-archive-keyring has them)"
    echo "$dir/apt.conf"
}

# fetch prints the paths of the packages that are the named kernel at present.
fetch() { # KERNEL
    local meta=${short[$1]:-$1} source=() config package packages
    if [[ $meta == */* ]]; then
        config=$(add_suite "${meta%/*}") || exit
        source=(-c "$config")
    fi
    meta=linux-image-${meta##*/}
    package=$(apt-cache "${source[@]}" depends "$meta" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
    [ -n "$package" ] || package=$meta
    # Newer ones are in parts: linux-base-7.3.4..., linux-binary-7.3.4..., linux-modules-7.3.4...
    mapfile -t packages < <(apt-cache "${source[@]}" depends "$package" 2>/dev/null |
        sed -n 's/^ *Depends: \(linux-[a-z]*-[0-9][^ ]*\)$/\1/p' | grep -F -e "-${package#linux-image-}")
    for package in "$package" "${packages[@]}"; do
        if ! compgen -G "$cache/${package}_*.deb" >/dev/null; then
            (cd "$cache" && apt-get -q "${source[@]}" -o APT::Sandbox::User=root download "$package" >&2) ||
                die "apt-get download $package failed: see above"
        fi
        compgen -G "$cache/${package}_*.deb" | sort -V | tail -n 1
    done
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
# Not these. The first has a latency in a bucket that is narrower than an emulated machine's delays. The others load the
# programs several times over for what no kernel decides: files, settings of lo, and where a status line is cut. The last
# send tens of thousands of packets for it: where frames and header blocks are cut, and full tables.
not='^(TestLatencyBuckets|TestPinnedSettingsOfLo|TestLoIsSetWhileABackendIsOnThisHost|TestSettingsOfOthersStay|TestSettingsAreKept'
not+='|TestRunningAgentIsNamed|TestAttachToWhatIsNotThere|TestUnreachableBackendsAreNotAdopted|TestStatusLineCutAnywhere'
not+='|TestHTTP2BackendSpeaksFirst|TestHTTP2CutAnywhere|TestHTTP2Excess|TestKeptConnectionOverAnyNetwork'
not+='|TestHPACKRepresentations|TestHPACKRandomBlocks|TestHPACKGarbage)$'
for package in "${packages[@]}"; do
    into=$work/root/tests/$(basename "$package")
    mkdir -p "$into"
    CGO_ENABLED=0 go test -c -o "$into/test" "$package"
    [ -e "$into/test" ] || die "$package has no tests"
    if [ -d "$package/testdata" ]; then
        cp -r "$package/testdata" "$into/"
    fi
    echo "-test.v -test.parallel=1 -test.timeout=${TIMEOUT:-20m} -test.skip=$not -test.run=${RUN:-${only[$package]:-.}}" >"$into/flags"
done
scripts/build.sh "$work/root/cbagent"
for program in sh cat sleep nft ip modprobe; do
    with_libraries "$(command -v $program)" "$work/root" "/usr/sbin/$program"
done
ln -s usr/sbin "$work/root/sbin" # the kernel calls /sbin/modprobe
ln -s usr/sbin "$work/root/bin"
pack "$work/root" "$work/common.gz"

# boot runs the tests on one kernel, and fails if they did.
boot() { # KERNEL FOLDER DEB...
    local kernel=$1 dir=$2 deb modules release tree=$2/modules
    shift 2
    mkdir -p "$dir/deb"
    for deb in "$@"; do
        dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$dir/deb"
    done
    modules=$(find "$dir/deb" -path '*lib/modules/*' -prune -type d | head -n 1)
    release=$(basename "$modules")
    echo "$release" >"$dir/release"
    if [[ -n ${short[$kernel]:-} && $kernel == [0-9]* && $release != "$kernel".* ]]; then
        echo "linux-image-${short[$kernel]} of this machine's distribution is $release" >"$dir/log"
        return 1
    fi
    mkdir -p "$tree/lib/modules/$release/kernel/drivers"
    cp "$modules"/modules.{order,builtin,builtin.modinfo} "$tree/lib/modules/$release/"
    cp -r "$modules/kernel/"{net,lib,crypto} "$tree/lib/modules/$release/kernel/"
    cp -r "$modules/kernel/drivers/net" "$tree/lib/modules/$release/kernel/drivers/"
    depmod -b "$tree" "$release"
    pack "$tree" "$dir/modules.gz"
    cat "$work/common.gz" "$dir/modules.gz" >"$dir/initrd"

    # Emulated, so that it runs where virtualisation cannot be nested. In the foreground:
    # what ends this script has to reach the machine too.
    timeout --foreground "${BOOT_TIMEOUT:-1200}" qemu-system-x86_64 -nodefaults -no-user-config -display none -monitor none -serial stdio \
        -machine q35,accel="${ACCEL:-tcg}" -cpu max -smp 1 -m "${MEMORY:-1536}" -no-reboot \
        -kernel "$(find "$dir/deb" -name 'vmlinuz*' -type f | head -n 1)" -initrd "$dir/initrd" \
        -append "console=ttyS0 panic=-1 quiet mitigations=off no_timer_check" </dev/null 2>&1 | tr -d '\r' >"$dir/log" || true
    grep -q '^kernel-tests: passed$' "$dir/log"
}

# Each machine that has ended says so here.
mkfifo "$work/ended"
exec 3<>"$work/ended"
running=0
failed=()

# await waits for a machine to end, and shows what it said.
await() {
    local status seconds kernel dir result=passed
    read -r status seconds kernel <&3
    running=$((running - 1))
    dir=$work/${kernel//\//_}
    [ "$status" = 0 ] || { result=FAILED && failed+=("$kernel"); }
    echo "=== $kernel"
    cat "$dir/log"
    echo "=== $kernel ($(cat "$dir/release")): $result in $seconds s"
}

# A processor for each, and no more of them at once.
jobs=${JOBS:-$(nproc)}
for kernel in "$@"; do
    [ $running -lt "$jobs" ] || await
    if ! debs=$(fetch "$kernel"); then
        failed+=("$kernel (not to be had)")
        continue
    fi
    mapfile -t debs <<<"$debs"
    dir=$work/${kernel//\//_}
    mkdir "$dir"
    touch "$dir/log" "$dir/release"
    (
        # shellcheck disable=SC2034 # the trap uses it
        from=$SECONDS
        trap 'echo "$? $((SECONDS - from)) $kernel" >&3' EXIT
        boot "$kernel" "$dir" "${debs[@]}"
    ) &
    running=$((running + 1))
done
while [ $running -gt 0 ]; do
    await
done
[ ${#failed[@]} -eq 0 ] || die "failed on: ${failed[*]}"
echo "test-kernels: passed on $* in $SECONDS s"
