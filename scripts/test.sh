#!/usr/bin/env bash
# Runs the tests: go test ./... as root, since they load BPF programs and make
# network namespaces of their own. Arguments go to go test.
#
# With CI=true each test is printed, and one that is skipped fails the run unless
# .ci/skips names it. What failed is also appended to the file FAILED, if it is set:
# the output of thousands of tests hides it.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

# -count=1: tests that run the agent as a process depend on more than Go sees.
args=(-cover -count=1 -timeout 30m)
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "test: the tests load BPF programs and make network namespaces: run them as root" >&2
        exit 1
    fi
    echo "test: the tests need root: running them through sudo"
    args+=(-exec "sudo -E env PATH=$PATH")
fi
if [ -n "${CI:-}" ]; then
    args+=(-v)
    export CBAGENT_BLOCKS=${CBAGENT_BLOCKS:-1000000} # random header blocks; 20 s
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
[ $# -gt 0 ] || set -- ./test/e2e ./... # the longest first, so that nothing waits for it at the end
go test "${args[@]}" "$@" 2>&1 | tee "$log" || status=$?

sed -n 's,^ok .*/\(internal/breaker\)\s.*coverage: \([0-9.]*%\).*,coverage of \1: \2,p' "$log"

if [ -n "${FAILED:-}" ] && [ "$status" != 0 ]; then
    {
        grep -B 15 -E -e '^ *--- FAIL' "$log" | cut -c1-300 | tail -n 150
        grep -E '^FAIL|^panic' "$log"
    } >>"$FAILED" || true
fi

if [ -n "${CI:-}" ]; then
    skipped=$(sed -n 's/^ *--- SKIP: \([^ ]*\).*/\1/p' "$log" | sort -u | grep -vxF -f <(sed 's/\s*#.*//; /^$/d' .ci/skips) || true)
    if [ -n "$skipped" ]; then
        printf 'test: skipped, and not listed in .ci/skips:\n%s\n' "$skipped" >&2
        status=1
    fi
fi
exit $status
