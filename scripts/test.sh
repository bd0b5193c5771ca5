#!/usr/bin/env bash
# Checks everything, locally and in CI. Installs what it needs. Run it as often as you like.
#
#   scripts/test.sh            everything
#   scripts/test.sh --quick    without what needs a build of its own: explored schedules, miri, sanitizers,
#                              fuzzers and planted faults
set -euo pipefail
cd "$(dirname "$0")/.."
quick=no
case ${1:-} in
    "") ;;
    --quick) quick=yes ;;
    *) echo "unknown option $1; see the top of $0" >&2; exit 2 ;;
esac

step() { printf '\n== %s (at %d:%02d)\n' "$*" $((SECONDS / 60)) $((SECONDS % 60)); }

# Runs what prints rows of the proof and keeps them for the table at the end.
rows=$(mktemp)
miri=$(mktemp)
miri_job=
clean_up() {
    [ -z "$miri_job" ] || kill "$miri_job" 2>/dev/null || true
    rm -f "$rows" "$miri"
}
trap clean_up EXIT
proof() { "$@" | tee -a "$rows"; }

need() { # command, Debian's packages that bring it
    local command=$1
    shift
    command -v "$command" >/dev/null && return
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        apt-get update -qq && apt-get install -y -qq "$@"
    else
        echo "$command is missing: install $*" >&2
        return 1
    fi
}

step "tools"
if ! command -v cargo >/dev/null; then
    echo "cargo is missing: install Rust 1.95 or newer first" >&2
    exit 1
fi
need cc gcc libc6-dev # sled and others need no C compiler, but linking does
# For power cuts on a file system of their own; those tests say so when they cannot run.
need mkfs.ext4 e2fsprogs || true
need losetup mount || true
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

step "clippy, what has a feature of its own"
cargo clippy --locked --all-targets --features fuzzing -- -D warnings
cargo clippy --locked --lib --features reference-filter -- -D warnings

step "clippy, the library alone"
cargo clippy --locked --lib --no-default-features -- -D warnings

step "tests"
# Benches are built by clippy above; running them is what scripts/bench.sh is for.
cargo test --locked --lib --bins --examples --test it --test promises --test tidy

step "proof: simulated disk, real processes and kernel, model, histories"
proof cargo test --locked --test crash --test kernel --test model --test histories -- --show-output

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

if [ "$quick" = no ]; then
    step "proof: planted faults"
    proof scripts/planted.sh

    # Each of the two keeps one core busy.
    step "proof: explored schedules, and miri beside them"
    scripts/miri.sh >"$miri" 2>&1 &
    miri_job=$!
    proof cargo test --locked --no-default-features --features shuttle --test schedules -- --show-output
    proof scripts/loom.sh
    step "proof: miri"
    result=0
    wait "$miri_job" || result=$?
    miri_job=
    proof cat "$miri"
    [ "$result" = 0 ]

    step "proof: thread sanitizer"
    proof scripts/sanitize.sh thread

    step "proof: address sanitizer"
    proof scripts/sanitize.sh address

    step "proof: fuzzers"
    proof scripts/fuzz.sh --seconds 60 --jobs 2
fi

step "all checks passed"
awk -f scripts/proof_table.awk "$rows"
grep '^NOT RUN' "$rows" || true
