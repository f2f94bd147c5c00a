#!/usr/bin/env bash
# Prints the version of this tree, as the agent will name itself: $VERSION, or the
# last tag and what came after it.
set -euo pipefail
cd "$(dirname "$0")/.."
echo "${VERSION:-$(git describe --tags --always --dirty 2>/dev/null || echo unknown)}"
