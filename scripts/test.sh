#!/usr/bin/env bash
# Checks everything, locally and in CI. Installs what it needs. Run it as often as you like.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

step "tools"
if ! command -v cargo >/dev/null; then
    echo "cargo is missing: install Rust 1.95 or newer first" >&2
    exit 1
fi
# sled and others need no C compiler, but linking does.
if ! command -v cc >/dev/null; then
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        apt-get update -qq && apt-get install -y -qq gcc libc6-dev
    else
        echo "a C linker (cc) is missing: install gcc or clang first" >&2
        exit 1
    fi
fi
for component in rustfmt clippy; do
    case $component in rustfmt) tool=cargo-fmt ;; *) tool=cargo-clippy ;; esac
    # rustup leaves a stand-in for tools that are not installed, so ask the tool itself.
    "$tool" --version >/dev/null 2>&1 || rustup component add "$component"
done
deny=yes
if ! cargo deny --version >/dev/null 2>&1; then
    cargo install --locked --quiet cargo-deny || deny=no
fi

step "format"
cargo fmt --check

step "clippy, all targets"
cargo clippy --locked --all-targets -- -D warnings

step "clippy, the library alone"
cargo clippy --locked --lib --no-default-features -- -D warnings

step "tests"
# Benches are built by clippy above; running them is what scripts/bench.sh is for.
cargo test --locked --lib --bins --tests --examples

step "tests of the doors that the fuzzers use"
cargo test --locked --lib --features fuzzing fuzzing

step "documentation tests"
cargo test --locked --doc

step "documentation"
RUSTDOCFLAGS="${RUSTDOCFLAGS:-} -D warnings" cargo doc --locked --no-deps

step "licences, bans and sources of dependencies"
if [ "$deny" = yes ]; then
    cargo deny --locked check licenses bans sources
else
    echo "SKIPPED: cargo-deny is not installed and could not be installed (no network?)"
fi

step "all checks passed"
