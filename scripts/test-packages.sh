#!/usr/bin/env bash
# Makes the packages and the image, and looks into them: what they install is what
# the tree has, systemd takes the unit, the agent takes the example policy, and a
# second making gives the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    printf 'test-packages: %s\n' "$@" >&2
    exit 1
}

rm -f bin/*.deb bin/*.rpm
scripts/packages.sh >/dev/null
scripts/image.sh ghcr.io/cbagent/cbagent bin/cbagent-image.tar >/dev/null
sha256sum bin/*.deb bin/*.rpm bin/cbagent-image.tar >"$work/sums"
scripts/packages.sh >/dev/null
scripts/image.sh ghcr.io/cbagent/cbagent bin/cbagent-image.tar >/dev/null
sha256sum --quiet -c "$work/sums" || fail "two builds of one commit differ"

dpkg-deb -x bin/*.deb "$work/deb"
for pair in deploy/systemd/cbagent.service=/usr/lib/systemd/system/cbagent.service \
    deploy/policy.yaml=/etc/cbagent/policy.yaml deploy/systemd/cbagent.default=/etc/default/cbagent; do
    cmp "${pair%%=*}" "$work/deb${pair#*=}" || fail "the deb has another ${pair#*=}"
done
(cd "$work/deb" && find . -type f | sed 's,^\.,,' | sort) >"$work/deb.files"
rpm -qpl bin/*.rpm | sort | diff "$work/deb.files" - || fail "deb and rpm install different files"
for file in /etc/cbagent/policy.yaml /etc/default/cbagent; do
    dpkg-deb -I bin/*.deb conffiles | grep -x "$file" >/dev/null || fail "an upgrade of the deb would overwrite $file"
    rpm -qp --configfiles bin/*.rpm | grep -x "$file" >/dev/null || fail "an upgrade of the rpm would overwrite $file"
done

for file in man/man8/cbagent-status.8.gz bash-completion/completions/cbagent zsh/vendor-completions/_cbagent \
    fish/vendor_completions.d/cbagent.fish doc/cbagent/cbagent.rules.yaml doc/cbagent/runbook.md; do
    [ -s "$work/deb/usr/share/$file" ] || fail "the deb has no $file"
done
for pair in LICENSE=copyright bpf/LICENSE=copyright.bpf; do
    cmp "${pair%%=*}" "$work/deb/usr/share/doc/cbagent/${pair#*=}" || fail "the deb has no ${pair%%=*}"
done
bash -n "$work/deb/usr/share/bash-completion/completions/cbagent" || fail "the completion for bash is no script"

"$work/deb/usr/bin/cbagent" check "$work/deb/etc/cbagent/policy.yaml" || fail "the example policy has errors"
uncomment() { sed '/^policies: \[\]/d; s/^# \(policies:\|- name\|  \)/\1/' "$1"; }
uncomment deploy/policy.yaml >"$work/example.yaml"
grep -q '^- name: orders' "$work/example.yaml" || fail "the example in deploy/policy.yaml was not found"
"$work/deb/usr/bin/cbagent" check "$work/example.yaml" || fail "the commented example in deploy/policy.yaml has errors"

# systemd wants the binary where the unit says it is, and the targets it names.
mkdir -p "$work/deb/etc/systemd" "$work/deb/lib"
cp -r /lib/systemd "$work/deb/lib/"
complaints=$(systemd-analyze verify --root="$work/deb" --man=no /usr/lib/systemd/system/cbagent.service 2>&1 | grep -F cbagent || true)
[ -z "$complaints" ] || fail "systemd-analyze verify:" "$complaints"

make -s build
DESTDIR=$work/stage PREFIX=/usr/local scripts/install.sh install >/dev/null
grep -q '^ExecStart=/usr/local/bin/cbagent ' "$work/stage/etc/systemd/system/cbagent.service" || fail "make install forgets PREFIX in the unit"
echo '# mine' >>"$work/stage/etc/cbagent/policy.yaml"
DESTDIR=$work/stage PREFIX=/usr/local scripts/install.sh install >/dev/null
grep -qx '# mine' "$work/stage/etc/cbagent/policy.yaml" || fail "make install overwrites a policy"
DESTDIR=$work/stage PREFIX=/usr/local scripts/install.sh uninstall >/dev/null
left=$(cd "$work/stage" && find . -type f | sort | tr '\n' ' ')
[ "$left" = "./etc/cbagent/policy.yaml ./etc/default/cbagent " ] || fail "make uninstall leaves $left"

make -s sbom
go version -m bin/cbagent | awk '$1 == "dep" {print $2 "@" $3}' | sort >"$work/modules"
jq -r '.components[] | select(.name != "std") | .name + "@" + .version' bin/cbagent.cdx.json | sort | diff "$work/modules" - ||
    fail "the bill of materials does not have the modules of the binary"

echo "packages, image, unit and install: as they should be"
