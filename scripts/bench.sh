#!/usr/bin/env bash
# Prints claims per second, memory and disk per id, beside one sled key per id in the same run.
# FIRSTSEEN_BENCH_IDS sets the number of claims (ten million if it is not set).
#
#   scripts/bench.sh            the store, sled, and the limit
#   scripts/bench.sh --filter   the store with its own filter and with the package `bloomfilter` in its
#                               place, in turn, five times each: claims per second, and the ratio of medians
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" != --filter ]; then
  exec cargo bench --locked --bench claim "$@"
fi

build() { # prints the path of the benchmark built with these features
  cargo bench --locked --bench claim --no-run --features "$1" 2>&1 | sed -n 's/.*(\(.*claim-[0-9a-f]*\)).*/\1/p'
}
claims=${FIRSTSEEN_BENCH_IDS:-10000000}
own=$(build "")
reference=$(build reference-filter)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for round in 1 2 3 4 5; do
  for filter in own reference; do
    rm -rf "$dir/store"
    "${!filter}" --store firstseen "$claims" "$dir/store" | cut -d' ' -f1 >> "$dir/$filter"
  done
  printf 'round %s: own %.0f, bloomfilter %.0f claims/s\n' "$round" "$(tail -n1 "$dir/own")" "$(tail -n1 "$dir/reference")"
done
median() { sort -n "$1" | sed -n 3p; }
awk -v a="$(median "$dir/own")" -v b="$(median "$dir/reference")" \
  'BEGIN { printf "own filter / bloomfilter: %.2f times the claims a second (medians)\n", a / b }'
