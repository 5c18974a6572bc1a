#!/usr/bin/env bash
# The whole way on the embedded study, in a folder of its own: search, front, plan, full run.
set -euo pipefail
bin=$(cd "${BIN:-.venv/bin}" && pwd)
folder=${DEMO_FOLDER:-$(mktemp -d "${TMPDIR:-/tmp}/jointsearch-demo.XXXXXX")}
mkdir -p "$folder"
cd "$folder"

run() {
    printf '\n$ %s\n' "$*"
    "$bin/$1" "${@:2}"
}

run jointsearch study start quickstart
run jointsearch front quickstart
run jointsearch export quickstart -o plan.json
run jointsearch plan show plan.json
run jointsearch train plan.json -o runs/final
run jointsearch evaluate runs/final
printf '\nEverything is in %s\n' "$folder"
