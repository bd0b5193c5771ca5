#!/usr/bin/env bash
# Runs the histories under a sanitizer: many threads on stores that flush, merge, sweep, heal, stop and are reopened,
# until the time is over.
#
#   scripts/sanitize.sh thread|address [--seconds N]      (default: 60)
#
# Needs a nightly toolchain; prints NOT RUN if there is none. The thread sanitizer must also instrument the standard
# library, so that is built too. Builds in a separate folder under target/.
set -euo pipefail
cd "$(dirname "$0")/.."
kind=${1:-}
case $kind in thread | address) ;; *) echo "usage: $0 thread|address [--seconds N]" >&2; exit 2 ;; esac
seconds=60
[ "${2:-}" != --seconds ] || seconds=${3:?--seconds needs a number}

not_run() {
    echo "NOT RUN: $kind sanitizer: $*"
    exit 0
}
host=$(rustc -vV | sed -n 's/^host: //p')
case $host in *-linux-gnu) ;; *) not_run "it is set up for Linux, this is $host" ;; esac
cargo +nightly --version >/dev/null 2>&1 || not_run "no nightly toolchain (rustup toolchain install nightly)"

export RUSTFLAGS="-Zsanitizer=$kind" CARGO_TARGET_DIR=target/san-$kind
flags=(--locked --package firstseen --target "$host" --test histories)
if [ "$kind" = thread ]; then
    rustup component add --toolchain nightly rust-src >/dev/null 2>&1 || not_run "rust-src cannot be installed"
    flags+=(-Zbuild-std)
    export TSAN_OPTIONS="halt_on_error=1 suppressions=$PWD/scripts/thread_sanitizer.txt"
else
    # What lives as long as the process is not a leak; what a thread holds past its history is.
    export ASAN_OPTIONS="detect_leaks=1"
fi
cargo +nightly test "${flags[@]}" --no-run

# Rounds with new seeds, so that the run takes its time on any machine.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
rounds=0
round=50
end=$((SECONDS + seconds))
while [ "$rounds" = 0 ] || [ "$SECONDS" -lt "$end" ]; do
    FIRSTSEEN_CRASH_SEED=$((rounds * round + 1)) FIRSTSEEN_HISTORIES=$round FIRSTSEEN_CROWDED_HISTORIES=2 \
        cargo +nightly test --quiet "${flags[@]}" -- i1_i4_i6_i12 >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
    rounds=$((rounds + 1))
done
echo "proof | $kind sanitizer | $((rounds * round)) | histories | 2 to 16 threads, crashes and sled among them, no report (thread: but for fences of sled, see scripts/thread_sanitizer.txt)"
