#!/usr/bin/env bash
# On the machine of the agent: backend-2 starts to fail, this machine's kernel rejects
# its clients and no others, it recovers, and its circuit closes. Exits with 1 if any of
# this does not happen.
set -euo pipefail
workload=${TREE:-/vagrant}/bin/workload
backends=192.168.56.20

fail() {
    echo "demo: $*" >&2
    exit 1
}
call() { # BACKEND: what 20 requests were answered, as JSON
    "$workload" call -count 20 -pause 20ms "$backends:808$1"
}
count() { # JSON KEY: the number behind the key, 0 where it is not there
    local n
    n=$(grep -o "\"$2\":[0-9]*" <<<"$1" | head -n 1 | cut -d: -f2) || true
    echo "${n:-0}"
}

echo "three healthy backends:"
for i in 1 2 3; do
    got=$(call $i)
    echo "  backend-$i $got"
    [ "$(count "$got" 200)" = 20 ] || fail "backend-$i does not answer 20 requests with 200"
done

echo "backend-2 answers 500 from now on:"
"$workload" control "$backends:9082" 500 >/dev/null
got=$(call 2)
echo "  backend-2 $got"
[ "$(count "$got" open)" -ge 10 ] || fail "the kernel answered for backend-2 fewer than 10 times"
[ "$(count "$got" 500)" -le 10 ] || fail "more than 10 requests reached the failing backend"
for i in 1 3; do
    got=$(call $i)
    echo "  backend-$i $got"
    [ "$(count "$got" 200)" = 20 ] || fail "backend-$i suffers from backend-2"
done

echo "backend-2 is healed:"
"$workload" control "$backends:9082" 200 >/dev/null
for _ in {1..40}; do
    got=$(call 2)
    [ "$(count "$got" 200)" != 20 ] || break
done
echo "  backend-2 $got"
[ "$(count "$got" 200)" = 20 ] || fail "the circuit of backend-2 does not close again"
echo "ok"
