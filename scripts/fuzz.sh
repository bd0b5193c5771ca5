#!/usr/bin/env bash
# Runs the fuzz targets for some time, and fails if one of them finds something.
#
#   scripts/fuzz.sh [--seconds N] [--jobs N] [--minimise] [TARGET...]
#
# --seconds    how long each target runs (60)
# --jobs       how many run at a time (2)
# --minimise   afterwards, replace the corpus in the repository by the fewest inputs with the same coverage
#
# Installs cargo-fuzz. Starts from fuzz/corpus; new inputs go to fuzz/target.
set -euo pipefail
cd "$(dirname "$0")/.."

all=(log_reader block_decode filter_snapshot manifest engine_model crash_schedule ledger_model commit_records transactions)
seconds=60 jobs=2 minimise=no targets=()
while [ $# -gt 0 ]; do
  case $1 in
    --seconds | --jobs)
      [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || { echo "$1 needs a number" >&2; exit 2; }
      declare "${1#--}=$2"
      shift 2
      ;;
    --minimise) minimise=yes; shift ;;
    -*) echo "unknown option $1" >&2; exit 2 ;;
    *)
      [[ " ${all[*]} " == *" $1 "* ]] || { echo "unknown target $1: one of ${all[*]}" >&2; exit 2; }
      targets+=("$1")
      shift
      ;;
  esac
done
[ ${#targets[@]} -gt 0 ] || targets=("${all[@]}")

if ! cargo +nightly --version >/dev/null 2>&1; then
  rustup toolchain install nightly --profile minimal || {
    echo "the fuzzer needs a nightly toolchain: rustup toolchain install nightly" >&2
    exit 1
  }
fi
cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz

# No sanitizer: the fuzz targets use a simulated disk, so they never reach the file with unsafe code, and without one
# there are several times as many inputs per second.
cargo +nightly fuzz build --sanitizer none
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
bin=fuzz/target/$host/release

fuzz_one() { # TARGET: writes the fuzzer's output to a log, and its exit status beside it
  local target=$1 found=fuzz/target/found/$1 log=fuzz/target/$1.log status=0
  mkdir -p "$found" "fuzz/artifacts/$target" "fuzz/corpus/$target"
  "$bin/$target" "$found" "fuzz/corpus/$target" -artifact_prefix="fuzz/artifacts/$target/" \
    -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=4096 -print_final_stats=1 \
    >"$log" 2>&1 || status=$?
  echo "$status" >"$log.status"
}

for target in "${targets[@]}"; do
  while [ "$(jobs -pr | wc -l)" -ge "$jobs" ]; do wait -n || true; done
  fuzz_one "$target" &
done
wait

failed=()
for target in "${targets[@]}"; do
  log=fuzz/target/$target.log
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  if [ "$(cat "$log.status")" = 0 ] && [ -n "$runs" ]; then
    echo "proof | fuzz $target | $runs | inputs | $seconds s; 0 crashes"
    continue
  fi
  failed+=("$target")
  grep -vE '^#[0-9]' "$log" | tail -n 60 | sed "s/^/$target: /" >&2
  input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
  echo "replay: cargo +nightly fuzz run --sanitizer none $target ${input:-<input>}" >&2
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi

if [ "$minimise" = yes ]; then
  for target in "${targets[@]}"; do
    fewest=fuzz/target/fewest/$target
    rm -rf "$fewest" && mkdir -p "$fewest"
    # Short inputs reach nearly as much as long ones, and can be read.
    "$bin/$target" -merge=1 -max_len=512 "$fewest" "fuzz/corpus/$target" "fuzz/target/found/$target" \
      >/dev/null 2>&1
    rm -rf "fuzz/corpus/$target" && cp -r "$fewest" "fuzz/corpus/$target"
  done
  du -sh --apparent-size fuzz/corpus
fi
