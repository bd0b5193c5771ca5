#!/usr/bin/env bash
# The everyday checks: format, lints, all tests, documentation, and a short pass of each proof that needs no extra tool.
# At most ten minutes on two cores in a fresh clone; much less the next time.
#
#   scripts/test.sh
#
# The long passes, and what needs extra tools, are in scripts/proof.sh. The last lines say what was left out.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# = 0 ] || { echo "no options; see the top of $0" >&2; exit 2; }
source scripts/steps.sh

cat <<'EOF'
Installs, where it is missing: gcc, libc6-dev, e2fsprogs and mount (apt-get, as root only), rustfmt and clippy (rustup).
Fetches the crates of Cargo.lock into cargo's folder, and builds in target/. Nothing else is installed.
EOF
begin

step "tools"
tools
cargo fetch --locked

step "format"
cargo fmt --all --check

step "lints: all targets, then the library alone"
cargo clippy "${tested[@]}" --all-targets -- -D warnings
cargo clippy --locked --package firstseen --lib -- -D warnings

step "build of the tests"
binaries=(--test it --test cli --test promises --test tidy --test crash --test kernel --test model --test histories --test pipelines)
# Benches are checked by clippy above and run by scripts/bench.sh.
cargo test "${tested[@]}" --no-run --lib --bins --examples "${binaries[@]}"

step "tests: unit, integration, command line, promises, tidy"
cargo test "${tested[@]}" --lib --bins --examples --test it --test cli --test promises --test tidy

step "short proof: simulated disk, kernel, model, histories, pipelines"
export FIRSTSEEN_CRASH_STATES=2000 FIRSTSEEN_CRASH_SCHEDULES=1000 FIRSTSEEN_FAULT_RUNS=2000 FIRSTSEEN_DAMAGES=200 \
    FIRSTSEEN_MODEL_CASES=500 FIRSTSEEN_HISTORIES=200 FIRSTSEEN_CROWDED_HISTORIES=20 FIRSTSEEN_KILLS=8 \
    FIRSTSEEN_CROWD_KILLS=6 FIRSTSEEN_POWER_CUTS=3 FIRSTSEEN_FULL_DISKS=2 \
    FIRSTSEEN_VANDALISM=20 FIRSTSEEN_RACES=8 FIRSTSEEN_SLED_CUTS=2 FIRSTSEEN_FOLDER_ROUNDS=5 \
    FIRSTSEEN_LEDGER_KILLS=20 FIRSTSEEN_PIPELINE_KILLS=1
rows_of cargo test "${tested[@]}" --test crash --test kernel --test model --test histories --test pipelines -- --show-output

step "short proof: explored schedules"
# Without optimisation: the build costs more than the run.
FIRSTSEEN_SCHEDULES=2000 CARGO_PROFILE_DEV_OPT_LEVEL=0 rows_of cargo test --locked --package firstseen --features shuttle --test schedules -- --show-output

step "short proof: planted faults"
# Only those that the smallest test binary notices: each costs a build of the library and of that binary.
rows_of scripts/planted.sh --jobs 1 --caught-by promises

step "documentation, and the examples in it"
RUSTDOCFLAGS="${RUSTDOCFLAGS:-} -D warnings" cargo doc --locked --no-deps --package firstseen
cargo test "${tested[@]}" --doc

ending "all checks passed"
cat <<'EOF'
Not run: the long passes of the proofs above (these were about a tenth), all planted faults but a few, loom, miri,
thread and address sanitizer, fuzzers, cargo-deny (licences, bans, sources). scripts/proof.sh runs them, planted faults by
ninetieths, in about 40 minutes; scripts/proof.sh --full all of it.
EOF
