#!/usr/bin/env bash
# Tries to break the promises for a given time, and prints what was tried and what was lost.
#
#   scripts/crash.sh [--minutes N] [--all] [--seed N] [LAYER...]
#
# Layers: crash (simulated disk, disk errors, damaged files), kernel (kill -9, power cut on ext4, full disk, damaged
# sled folder, two processes, plain sled for comparison), model, histories, pipelines (examples, killed), schedules, fuzz.
# Default: all of them, round after round with new seeds, until the time is over (10 minutes by default). `--all` first
# runs, once and not timed, what does not profit from repetition: planted faults, loom, miri and the sanitizers.
#
# A failure ends its layer, not the others; it is listed at the end, and the exit code is 1. Power cuts and full disks
# need root. FIRSTSEEN_CRASH_STATES and similar variables (see each harness) set how much one round tries.
set -euo pipefail
cd "$(dirname "$0")/.."

minutes=10 all=no seed=$((RANDOM * 32768 + RANDOM))
layers=()
known=(crash kernel model histories pipelines schedules fuzz)
while [ $# -gt 0 ]; do
    case $1 in
        --minutes | --seed)
            [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || { echo "$1 needs a whole number above 0" >&2; exit 2; }
            declare "${1#--}=$2"
            shift
            ;;
        --all) all=yes ;;
        -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" | grep -v '^set'; exit 0 ;;
        -*) echo "unknown option $1; see the top of $0" >&2; exit 2 ;;
        *)
            [[ " ${known[*]} " == *" $1 "* ]] || { echo "there is no layer $1: one of ${known[*]}" >&2; exit 2; }
            layers+=("$1")
            ;;
    esac
    shift
done
[ ${#layers[@]} -gt 0 ] || layers=("${known[@]}")

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
logs=${CARGO_TARGET_DIR:-target}/crash-logs
mkdir -p "$logs"
: > "$out/rows"
declare -A failed=()
# A layer takes a tenth of this, so one that is not done by then hangs.
hang=30m

# Runs a layer and keeps its rows: what was tried, and what could not be run.
run() {
    local layer=$1 log=$logs/$1.log began=$SECONDS
    shift
    if timeout --kill-after=10 "$hang" "$@" > "$log" 2>&1; then
        echo "$layer: $((SECONDS - began)) s, $(grep -c '^proof |' "$log") rows" >&2
    else
        failed[$layer]=$logs/$layer-failed-$seed.log
        cp "$log" "${failed[$layer]}"
        echo "$layer: FAILED after $((SECONDS - began)) s; its output is in ${failed[$layer]}" >&2
    fi
    grep -E '^(proof \||NOT RUN)' "$log" >> "$out/rows" || true
}

tests() { # layer, cargo arguments for its test binary; with the seeds of this round
    local layer=$1
    shift
    run "$layer" env FIRSTSEEN_CRASH_SEED="$seed" FIRSTSEEN_MODEL_SEED="$seed" FIRSTSEEN_SCHEDULE_SEED="$seed" \
        cargo test --locked "$@" -- --show-output
}

layer() {
    case $1 in
        crash | kernel | model | histories | pipelines) tests "$1" --test "$1" ;;
        schedules) tests schedules --features shuttle --test schedules ;;
        fuzz) run fuzz scripts/fuzz.sh --seconds 60 --jobs 2 ;;
    esac
}

began=$(date -u '+%Y-%m-%d %H:%M')
if [ "$all" = yes ]; then
    run planted scripts/planted.sh
    run loom scripts/loom.sh
    run miri scripts/miri.sh
    run thread-sanitizer scripts/sanitize.sh thread
    run address-sanitizer scripts/sanitize.sh address
    run planted-for-tools scripts/planted_tools.sh
fi
SECONDS=0
rounds=0
while [ $SECONDS -lt $((minutes * 60)) ]; do
    for name in "${layers[@]}"; do
        [ -z "${failed[$name]:-}" ] || continue
        [ $SECONDS -lt $((minutes * 60)) ] || break
        layer "$name"
    done
    [ ${#failed[@]} -lt ${#layers[@]} ] || break
    rounds=$((rounds + 1))
    # More seeds than any harness uses in a round.
    seed=$((seed + 10000000))
done

commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
git diff --quiet HEAD 2>/dev/null || commit="$commit and changes"
echo
echo "Began $began UTC; $((SECONDS / 60)) minutes, $rounds rounds; commit $commit; $(nproc) cores."
echo
awk -f scripts/proof_table.awk "$out/rows"
echo
if [ ${#failed[@]} -gt 0 ]; then
    for name in "${!failed[@]}"; do
        echo "FAILED: $name"
        grep -A6 -E 'panicked at|replay|SURVIVED|ERROR' "${failed[$name]}" | head -n 40 || true
    done
    exit 1
fi
if grep '^NOT RUN' "$out/rows" | sort -u; then
    exit 1
fi
if ! grep -q '^proof' "$out/rows"; then
    echo "NOTHING WAS TRIED"
    exit 1
fi
echo "Acknowledged claims lost: 0. Granted twice: 0. Panics: 0. Hangs: 0. Silent losses: 0."
