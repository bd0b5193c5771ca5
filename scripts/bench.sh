#!/usr/bin/env bash
# Prints claims per second, memory and disk per id, beside one sled key per id in the same run.
# FIRSTSEEN_BENCH_IDS sets the number of claims (ten million if it is not set).
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo bench --locked --bench claim "$@"
