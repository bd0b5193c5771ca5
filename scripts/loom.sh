#!/usr/bin/env bash
# Tries every interleaving of group commit, of the signal of the background threads, of waiting for a reservation and of
# waiting for a row to change, and with few preemptions of the lanes of the log: small models around the library's own
# code (the files named every_order.rs).
set -euo pipefail
cd "$(dirname "$0")/.."
cargo test --locked --package firstseen --features loom --lib loom_ -- --show-output
