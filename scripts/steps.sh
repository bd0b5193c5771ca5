# What scripts/test.sh and scripts/proof.sh share. Read with `source`, from the root of the repository.
# shellcheck shell=bash

# One set of features for all that is tested, so that it is built once; `fuzzing` only opens doors to private readers.
tested=(--locked --features fuzzing)

scratch=$(mktemp -d)
rows=$scratch/rows # lines `proof | ...` and `NOT RUN ...`, for the table at the end
times=$scratch/times
: > "$rows"
: > "$times"
step_name=
step_began=0
step_cpu=0
heart=

clock() { printf '%d:%02d' $(($1 / 60)) $(($1 % 60)); }

# Seconds of processor that the commands of this script have taken so far: what a busy machine does not stretch.
processor() {
    times > "$scratch/cpu" # not in a subshell, which has children of its own
    awk -F '[ ms]+' 'NR == 2 { printf "%d", $1 * 60 + $2 + $3 * 60 + $4 }' "$scratch/cpu"
}

step_ends() {
    [ -n "$step_name" ] || return 0
    processor > "$scratch/now"
    local now
    now=$(cat "$scratch/now")
    printf '%6s  %6s  %s\n' "$(clock $((SECONDS - step_began)))" "$(clock $((now - step_cpu)))" "$step_name" >> "$times"
    step_cpu=$now
    step_name=
}

step() {
    step_ends
    step_name=$*
    step_began=$SECONDS
    # The heartbeat says what it reads here, so that a long build is never silent.
    echo "$step_name" > "$scratch/step"
    printf '\n== %s (at %s)\n' "$step_name" "$(clock $SECONDS)"
}

heart_beats() {
    while sleep 30; do
        echo "   ... $(clock $SECONDS): $(cat "$scratch/step" 2>/dev/null)"
    done
}

clean_up() {
    local result=$?
    [ -z "$heart" ] || kill "$heart" 2>/dev/null || true
    [ -z "${beside:-}" ] || kill "$beside" 2>/dev/null || true
    [ $result = 0 ] || [ -z "$step_name" ] || printf '\n== FAILED in: %s (at %s)\n' "$step_name" "$(clock $SECONDS)" >&2
    rm -rf "$scratch"
}

begin() {
    trap clean_up EXIT
    heart_beats &
    heart=$!
}

# Runs tests that print rows. What passing tests print is shown only where it is a row: some of it is the panics of
# sled that those tests are about. What failing tests print is shown whole.
rows_of() {
    "$@" | awk -v rows="$rows" '
        /^successes:$/ { hidden = 1 }
        /^failures:$/ || /^test result/ { hidden = 0 }
        /^(proof \||NOT RUN)/ { print >> rows; print; fflush(); next }
        !hidden { print; fflush() }'
}

need() { # command, Debian's packages that bring it
    local command=$1
    shift
    command -v "$command" >/dev/null && return
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        echo "installing $* for $command"
        apt-get update -qq && apt-get install -y -qq "$@" >/dev/null
    else
        echo "$command is missing: install $*" >&2
        return 1
    fi
}

tools() {
    if ! command -v cargo >/dev/null; then
        echo "cargo is missing: install Rust 1.89 or newer first" >&2
        exit 1
    fi
    need cc gcc libc6-dev # sled and others need no C compiler, but linking does
    # For power cuts on a file system of their own; those tests say so when they cannot run.
    need mkfs.ext4 e2fsprogs || true
    need losetup mount || true
    local component tool
    for component in rustfmt clippy; do
        case $component in rustfmt) tool=cargo-fmt ;; *) tool=cargo-clippy ;; esac
        # rustup leaves a stand-in for tools that are not installed, so ask the tool itself.
        "$tool" --version >/dev/null 2>&1 || { echo "installing $component"; rustup component add "$component"; }
    done
}

ending() { # the words of the last heading
    step_ends
    printf '\n== %s, in %s\n' "$*" "$(clock $SECONDS)"
    printf '%6s  %6s\n' took cpu
    cat "$times"
    echo
    awk -f scripts/proof_table.awk "$rows"
    grep '^NOT RUN' "$rows" | sort -u || true
}
