# Shared by scripts/test.sh and scripts/proof.sh; read with `source` at the root of the repository.
# shellcheck shell=bash

# One set of features for all tests, so that they are built once; `fuzzing` only exposes private readers.
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

# CPU seconds that this script's commands have taken so far, which do not depend on the load of the machine.
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
    # The heartbeat prints this, so that a long build is never silent.
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
    [ -z "${servers:-}" ] || kill "$servers" 2>/dev/null || true
    [ $result = 0 ] || [ -z "$step_name" ] || printf '\n== FAILED in: %s (at %s)\n' "$step_name" "$(clock $SECONDS)" >&2
    rm -rf "$scratch"
}

begin() {
    trap clean_up EXIT
    heart_beats &
    heart=$!
}

# Runs tests that print rows. Shows only the rows of passing tests, as their output includes expected panics of sled;
# shows all output of failing ones.
rows_of() {
    "$@" | awk -v rows="$rows" '
        /^successes:$/ { hidden = 1 }
        /^failures:$/ || /^test result/ { hidden = 0 }
        /^(proof \||NOT RUN)/ { print >> rows; print; fflush(); next }
        !hidden { print; fflush() }'
}

need() { # command, the Debian packages that provide it
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
    need cc gcc libc6-dev # for linking
    # For power cuts on a separate file system; those tests report NOT RUN without it.
    need mkfs.ext4 e2fsprogs || true
    need losetup mount || true
    local component tool
    for component in rustfmt clippy; do
        case $component in rustfmt) tool=cargo-fmt ;; *) tool=cargo-clippy ;; esac
        # rustup installs proxies even for missing tools, so run the tool itself.
        "$tool" --version >/dev/null 2>&1 || { echo "installing $component"; rustup component add "$component"; }
    done
}

ending() { # text of the last heading
    step_ends
    printf '\n== %s, in %s\n' "$*" "$(clock $SECONDS)"
    printf '%6s  %6s\n' took cpu
    cat "$times"
    echo
    awk -f scripts/proof_table.awk "$rows"
    grep '^NOT RUN' "$rows" | sort -u || true
}
