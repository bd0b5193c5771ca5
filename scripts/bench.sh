#!/usr/bin/env bash
# Prints claims per second, memory and disk per id, compared with one sled key per id in the same run.
# FIRSTSEEN_BENCH_IDS sets the number of claims (default: ten million).
#
#   scripts/bench.sh            the store, sled, and the limit
#   scripts/bench.sh --filter   the store with its own filter and with that of the package `bloomfilter`, in turn, five
#                               times each: claims per second, and the ratio of medians
#   scripts/bench.sh compare    the store, its peers and the limits (benches/compare), one after the other; writes
#                               docs/BENCHMARKS.md and docs/plots. Installs missing peers where it can. Resumes
#                               after an interruption.
#       --quick                 a million claims per run, about a quarter of an hour; the default
#       --goals                 what the goals in docs/BENCHMARKS.md need, at their sizes, up to a hundred million ids: half
#                               an hour
#       --full                  ten million claims per run, three rounds, up to a hundred million ids: half a day
#       --claims N, --only CASE, --again, --dir FOLDER: see `compare suite --help`
#   scripts/bench.sh threads    claims by the number of threads, of the store and of every peer that threads can share, in
#                               interleaved rounds; writes the section "Claims by threads" of docs/BENCHMARKS.md and its
#                               plots. About half an hour.
#       --threads 1,2,4,8,64, --claims N, --rounds N, --dir FOLDER, --report: see `compare threads --help`
set -euo pipefail
cd "$(dirname "$0")/.."

has() { # whether a package's file is there, by its pattern
  compgen -G "$1" >/dev/null
}

install_peers() { # what cannot be installed is left out of the comparison
  local missing=()
  has '/usr/include/rocksdb/c.h' || missing+=(librocksdb-dev)
  has '/usr/lib/llvm-*/lib/libclang*.so*' || missing+=(libclang-dev)
  has '/usr/bin/redis-server' || missing+=(redis-server)
  has '/usr/lib/postgresql/*/bin/initdb' || missing+=(postgresql)
  has '/usr/bin/time' || missing+=(time)
  command -v setpriv >/dev/null || missing+=(util-linux)
  command -v cc >/dev/null && command -v c++ >/dev/null || missing+=(gcc g++ libc6-dev)
  if [ "${#missing[@]}" != 0 ]; then
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
      apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"
    else
      echo "not installed, left out where possible: ${missing[*]}" >&2
    fi
  fi
}

install_line_tools() {
  for tool in huniq runiq; do
    has "benches/compare/target/bin/$tool" ||
      cargo install --locked --quiet --root benches/compare/target "$tool" || echo "left out: $tool" >&2
  done
}

build_compare() {
  install_peers
  local features=()
  if has '/usr/include/rocksdb/c.h' && has '/usr/lib/llvm-*/lib/libclang*.so*'; then
    ROCKSDB_LIB_DIR=/usr/lib/$(cc -print-multiarch)
    export ROCKSDB_LIB_DIR ROCKSDB_INCLUDE_DIR=/usr/include
    features=(--features rocksdb)
  fi
  cargo build --locked --release --manifest-path benches/compare/Cargo.toml "${features[@]}"
}

compare() {
  build_compare
  install_line_tools
  cargo build --locked --release
  # Write the tables even if a run failed; it is missing there.
  local status=0
  benches/compare/target/release/compare suite "$@" || status=$?
  benches/compare/target/release/compare report
  return "$status"
}

if [ "${1:-}" = compare ]; then
  shift
  compare "$@"
  exit
fi
if [ "${1:-}" = threads ]; then
  shift
  build_compare
  exec benches/compare/target/release/compare threads "$@"
fi
if [ "${1:-}" != --filter ]; then
  exec cargo bench --locked --bench claim "$@"
fi

build() { # builds the benchmark with these features and prints its path
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
