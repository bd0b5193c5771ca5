#!/usr/bin/env bash
# Runs unit tests under Miri, which notices undefined behaviour: the mapped files (over memory instead
# of a file), locks and bells, the fail-stop flag, the codecs, the sets of a shard.
#
#   scripts/miri.sh [FILTER]...      FILTER: a part of the path of a test, in place of the list below
#
# Needs a nightly toolchain with the components miri and rust-src, and says NOT RUN where they cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."

not_run() {
    echo "NOT RUN: miri: $*"
    exit 0
}
cargo +nightly --version >/dev/null 2>&1 || not_run "no nightly toolchain (rustup toolchain install nightly)"
rustup component add --toolchain nightly miri rust-src >/dev/null 2>&1 || not_run "the components cannot be had"

tests=(
    disk::mapped:: sync:: health:: codec:: wal::record::
    memtable:: run::block:: run::block_cache:: shard::
)
[ $# = 0 ] || tests=("$@")
# Flipping every bit of everything takes Miri a quarter of an hour, and is no matter of memory.
skipped=(every_flipped_bit)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo +nightly miri test --locked --package firstseen --lib -- "${tests[@]}" "${skipped[@]/#/--skip=}" | tee "$log"
# A filter that a rename has left behind would pass by running nothing.
for filter in "${tests[@]}"; do
    grep -q "^test $filter" "$log" || { echo "no test has $filter in its path" >&2; exit 1; }
done
passed=$(sed -n 's/^test result: ok. \([0-9]*\) passed.*/\1/p' "$log")
echo "proof | miri | $passed | tests | unsafe, locks, codecs, memtables, blocks, shards"
