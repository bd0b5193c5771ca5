#!/usr/bin/env bash
# Runs unit tests under Miri, which detects undefined behaviour: mapped files (over memory instead of a file), locks and
# signals, the fail-stop flag, codecs, memtables, blocks and shards.
#
#   scripts/miri.sh [FILTER]...      FILTER: part of the path of a test, instead of the list below
#
# Needs a nightly toolchain with the components miri and rust-src; prints NOT RUN if they cannot be installed.
set -euo pipefail
cd "$(dirname "$0")/.."

not_run() {
    echo "NOT RUN: miri: $*"
    exit 0
}
cargo +nightly --version >/dev/null 2>&1 || not_run "no nightly toolchain (rustup toolchain install nightly)"
rustup component add --toolchain nightly miri rust-src >/dev/null 2>&1 || not_run "the components cannot be installed"

tests=(
    disk::mapped:: sync:: health:: codec:: wal::record::
    memtable:: run::block:: run::block_cache:: shard::
)
[ $# = 0 ] || tests=("$@")
# Flipping every bit takes Miri a quarter of an hour, and has nothing to do with memory safety.
skipped=(every_flipped_bit)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo +nightly miri test --locked --package firstseen --lib -- "${tests[@]}" "${skipped[@]/#/--skip=}" | tee "$log"
# A filter left behind by a rename would match no test and pass.
for filter in "${tests[@]}"; do
    grep -q "^test $filter" "$log" || { echo "no test has $filter in its path" >&2; exit 1; }
done
passed=$(sed -n 's/^test result: ok. \([0-9]*\) passed.*/\1/p' "$log")
echo "proof | miri | $passed | tests | unsafe, locks, codecs, memtables, blocks, shards"
