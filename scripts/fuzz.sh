#!/usr/bin/env bash
# Runs every fuzz target for a while: scripts/fuzz.sh [--seconds N] [TARGET...]. Installs cargo-fuzz.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=60
if [ "${1:-}" = --seconds ]; then
    seconds=${2:?--seconds needs a number}
    shift 2
fi
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(log_reader chunk_decode filter_snapshot manifest engine_model)

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "the fuzzer needs a nightly toolchain: rustup toolchain install nightly" >&2
    exit 1
fi
cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz

# What it finds on the way goes to a folder that is not kept; the corpus in the repository is the start.
failed=()
for target in "${targets[@]}"; do
    found="fuzz/target/corpus/$target"
    mkdir -p "$found"
    cargo +nightly fuzz run "$target" "$found" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=4096 -print_final_stats=1 \
        2>&1 | { grep -E 'number_of_executed_units|ERROR|panicked|Test unit|SUMMARY' || true; } \
        | sed "s/^/$target: /" || failed+=("$target")
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]} (inputs in fuzz/artifacts; replay: cargo +nightly fuzz run TARGET FILE)" >&2
    exit 1
fi
