#!/usr/bin/env bash
# Tries every order of the steps of group commit, of the bell of the background threads and of waiting for a
# reservation: small models around the very code of the library (the files named every_order.rs).
set -euo pipefail
cd "$(dirname "$0")/.."
cargo test --locked --package firstseen --features loom --lib loom_ -- --show-output
