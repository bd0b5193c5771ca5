#!/usr/bin/env bash
# Runs the unit and integration tests on mutants of the library, made by cargo-mutants. They are made from the current
# source, so a rename does not break them as it may a patch of tests/planted.
#
#   scripts/mutants.sh [--base REV] [--sample N] [--jobs N] [--all]
#
# --base     mutants of the lines changed since REV (default: where the branch left main; on main, the commit before)
# --sample   at most this many of them, spread evenly (default: 20); each costs a build, about a minute of one core
# --all      every mutant of src/, some 3,000: most of a day
#
# Exits with 1 if a mutant was missed, with another number if the run failed. Installs cargo-mutants.
# .cargo/mutants.toml says which files and tests; missed mutants are listed in target/mutants.out.
set -euo pipefail
cd "$(dirname "$0")/.."
base= sample=20 jobs=2 all=no
while [ $# -gt 0 ]; do
    case $1 in
        --base) base=${2:?--base needs a revision}; shift ;;
        --sample | --jobs)
            [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || { echo "$1 needs a whole number above 0" >&2; exit 2; }
            declare "${1#--}=$2"
            shift
            ;;
        --all) all=yes ;;
        *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" | grep -v '^set' >&2; exit 2 ;;
    esac
    shift
done
cargo mutants --version >/dev/null 2>&1 || cargo install --locked cargo-mutants

diff=$(mktemp)
log=$(mktemp)
trap 'rm -f "$diff" "$log"' EXIT
what="all of src/"
flags=(--jobs "$jobs" --output target --colors never --no-shuffle)
if [ "$all" = no ]; then
    if [ -z "$base" ]; then
        base=$(git merge-base HEAD main 2>/dev/null || git merge-base HEAD origin/main 2>/dev/null || true)
        [ -n "$base" ] && [ "$base" != "$(git rev-parse HEAD)" ] || base=HEAD~1
    fi
    if ! git diff "$base" -- src > "$diff" 2>/dev/null; then
        echo "NOT RUN: mutants: there is no revision $base to compare with (a shallow clone?)"
        exit 0
    fi
    flags+=(--in-diff "$diff")
    many=0
    [ ! -s "$diff" ] || many=$(cargo mutants --list "${flags[@]}" 2>/dev/null | grep -c . || true)
    if [ "$many" = 0 ]; then
        echo "proof | mutants | 0 | noticed | no line of src/ that changed since $base has one"
        exit 0
    fi
    shards=$(((many + sample - 1) / sample))
    flags+=(--shard "0/$shards" --sharding round-robin)
    what="of $many in what changed since $base"
fi

result=0
cargo mutants "${flags[@]}" 2>&1 | tee "$log" || result=$?
out=target/mutants.out
count() { grep -c . "$out/$1.txt" 2>/dev/null || true; }
caught=$(($(count caught) + $(count timeout)))
missed=$(count missed)
# 2: some were missed, 3: some timed out; anything else is a failure of the run.
case $result in 0 | 2 | 3) ;; *) exit "$result" ;; esac
[ "$missed" = 0 ] || sed 's/^/SURVIVED  /' "$out/missed.txt"
echo "proof | mutants | $caught | noticed | of $((caught + missed)) tried, $what; $(count unviable) more do not compile"
[ "$missed" = 0 ]
