#!/usr/bin/env bash
# Formatting, vet and a few meant checks; staticcheck.conf says which and why.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
status=0
format_c=true # true once the files of bpf/ are formatted by .clang-format

fail() {
    printf 'lint: %s\n' "$@" >&2
    status=1
}

unformatted=$(git ls-files '*.go' | xargs -r gofmt -l)
[ -z "$unformatted" ] || fail "not formatted, run gofmt -w on:" "$unformatted"

go mod tidy -diff || fail "go.mod is not tidy: run go mod tidy"
go vet ./... || fail "go vet: see above"
go tool -modfile=tools/go.mod staticcheck ./... || fail "staticcheck: see above"
(cd bench && go mod tidy -diff) || fail "bench/go.mod is not tidy: run go mod tidy in bench"
(cd bench && go vet ./... && go tool -modfile=../tools/go.mod staticcheck ./...) || fail "vet or staticcheck of bench: see above"
(go vet -tags zoo ./test/zoo && go tool -modfile=tools/go.mod staticcheck -tags zoo ./test/zoo) || fail "vet or staticcheck of test/zoo: see above"
(cd test/zoo/peers && go mod tidy -diff) || fail "test/zoo/peers/go.mod is not tidy: run go mod tidy in test/zoo/peers"
(cd test/zoo/peers && go vet ./... && go tool -modfile=../../../tools/go.mod staticcheck ./...) || fail "vet or staticcheck of test/zoo/peers: see above"
go run ./test/mutants -check || fail "mutants: see above; whoever changes a line of test/mutants/mutants.go changes its entry"
if "$format_c"; then
    git ls-files 'bpf/*.[ch]' | xargs -r clang-format-19 --dry-run --Werror || fail "not formatted, run clang-format-19 -i on the files above"
fi
git ls-files '*.sh' .ci/run | xargs -r shellcheck || fail "shellcheck: see above"
exit $status
