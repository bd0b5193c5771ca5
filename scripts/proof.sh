#!/usr/bin/env bash
# The whole programme of docs/RELIABILITY.md, at the figures of its "every run". About 40 minutes on two cores, after
# scripts/test.sh, whose builds it reuses.
#
#   scripts/proof.sh            a ninetieth of the planted faults, another each day; if cargo-mutants is
#                               installed, a few mutants of the changed lines
#   scripts/proof.sh --full     all planted faults, and every mutant of src/: most of a day
#
# Ends with a table of what was tried, and a list of what could not be run here.
set -euo pipefail
cd "$(dirname "$0")/.."
full=no
case ${1:-} in
    "") ;;
    --full) full=yes ;;
    *) echo "unknown option $1; see the top of $0" >&2; exit 2 ;;
esac
source scripts/steps.sh

cat <<'EOF'
Installs, where it is missing: what scripts/test.sh installs, the servers of scripts/servers.sh (apt-get, pip), cargo-deny and cargo-fuzz (cargo install, minutes), and for the
nightly toolchain of rustup the components miri and rust-src. Without a nightly toolchain: that too, for the fuzzers.
EOF
begin

step "tools"
tools
cargo fetch --locked
# Without optimisation (--debug): it would take longer than it saves.
for tool in deny fuzz; do
    cargo "$tool" --version >/dev/null 2>&1 && continue
    echo "installing cargo-$tool"
    cargo install --locked --quiet --debug "cargo-$tool" || true
done

step "licences, bans and sources of dependencies"
if cargo deny --version >/dev/null 2>&1; then
    cargo deny --locked check licenses bans sources
else
    echo "NOT RUN: cargo-deny is not installed and could not be installed (no network?)" | tee -a "$rows"
fi

step "lints of feature-gated code"
cargo clippy --locked --lib --bins -- -D warnings
cargo clippy --locked --package firstseen --lib --features reference-filter -- -D warnings

# Real processes and the kernel mostly wait for each other.
step "simulated disk, model, histories, pipelines, with real processes and kernel beside them"
export FIRSTSEEN_FOLDER_ROUNDS=200 FIRSTSEEN_RACES=200 FIRSTSEEN_LEDGER_KILLS=40 FIRSTSEEN_PIPELINE_KILLS=8
cargo test "${tested[@]}" --test kernel -- --show-output > "$scratch/kernel" 2>&1 &
beside=$!
rows_of cargo test "${tested[@]}" --test crash --test model --test histories --test pipelines -- --show-output

step "real processes and kernel"
result=0
wait "$beside" || result=$?
beside=
rows_of cat "$scratch/kernel"
[ "$result" = 0 ]

# The adapters mostly wait for their servers, so other steps fit beside them. All faults take more than an hour: each day plants
# another ninetieth of them.
part=$(($(date +%s) / 86400 % 90))/90
[ "$full" = no ] || part=0/1
scripts/servers.sh > "$scratch/servers" 2>&1 &
servers=$!

step "planted faults, with the adapters beside them"
rows_of scripts/planted.sh --part "$part"

# Each of the two uses one core.
step "explored schedules, with miri and the adapters beside them"
scripts/miri.sh > "$scratch/miri" 2>&1 &
beside=$!
rows_of cargo test --locked --package firstseen --features shuttle --test schedules -- --show-output
rows_of scripts/loom.sh

step "miri"
result=0
wait "$beside" || result=$?
beside=
rows_of cat "$scratch/miri"
[ "$result" = 0 ]

step "adapters, with their real servers"
result=0
wait "$servers" || result=$?
servers=
rows_of cat "$scratch/servers"
[ "$result" = 0 ]

if [ "$full" = yes ]; then
    step "planted faults of the adapters"
    rows_of scripts/planted.sh --adapters
fi

# Each build has stretches that only one core can work at, so the two halves share both.
step "address sanitizer and fuzzers, with the thread sanitizer and carrying planted faults beside them"
{ scripts/sanitize.sh thread --seconds 30 && scripts/carry_planted_test.sh; } > "$scratch/thread" 2>&1 &
beside=$!
rows_of scripts/sanitize.sh address --seconds 30
rows_of scripts/fuzz.sh --seconds 15 --jobs 2

step "thread sanitizer, and planted faults carried over edits"
result=0
wait "$beside" || result=$?
beside=
rows_of cat "$scratch/thread"
[ "$result" = 0 ]

step "mutants"
if [ "$full" = yes ]; then
    rows_of scripts/mutants.sh --all
elif cargo mutants --version >/dev/null 2>&1; then
    # A mutant may be equivalent to the original, so missed ones are reported but do not fail this run.
    result=0
    rows_of scripts/mutants.sh --sample 8 || result=$?
    case $result in 0) ;; 1) echo "mutants were missed: see SURVIVED above" ;; *) exit "$result" ;; esac
else
    echo "NOT RUN: mutants of what changed: scripts/mutants.sh installs cargo-mutants and tries them" | tee -a "$rows"
fi

ending "the whole programme passed"
echo "Not run: known vulnerabilities of dependencies (cargo deny check advisories needs a database from outside)."
[ "$full" = yes ] || echo "Not run: all but a ninetieth of the planted faults (scripts/planted.sh runs all), and those of the adapters (--adapters)."
[ "$full" = yes ] || echo "Not run: all mutants but a few. Those of a change: scripts/mutants.sh; all: scripts/proof.sh --full, most of a day."
echo "Not run: new seeds, round after round. That is scripts/crash.sh."
