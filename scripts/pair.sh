#!/usr/bin/env bash
# Compares plain claims of two revisions: builds benches/pair.rs for both, runs them in turn, and prints the median of
# the ratios of each pair, new to old. A pair runs within a minute, so what else the machine does weighs on both.
#
#   scripts/pair.sh OLD [ROUNDS]     OLD: a revision; ROUNDS: pairs (default 6)
set -euo pipefail
cd "$(dirname "$0")/.."
old=${1:?the old revision}
rounds=${2:-6}
work=$PWD/target/pair
mkdir -p "$work"
rm -rf "$work/old"
git worktree prune
git worktree add --force --detach "$work/old" "$old" > /dev/null 2>&1
trap 'git worktree remove --force "$work/old"' EXIT

build() { # tree, name of the binary
    local tree=$1 name=$2 binary
    binary=$(cd "$tree" && cargo bench --locked --bench pair --no-run --message-format=json-render-diagnostics |
        sed -n 's/.*"name":"pair".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
    cp "$binary" "$work/pair-$name"
}

build . new
cp benches/pair.rs "$work/old/benches/"
grep -q 'name = "pair"' "$work/old/Cargo.toml" ||
    printf '\n[[bench]]\nname = "pair"\nharness = false\n' >> "$work/old/Cargo.toml"
# A revision that is older than the workspace would be taken for a part of this one.
grep -q '^\[workspace\]' "$work/old/Cargo.toml" || printf '\n[workspace]\n' >> "$work/old/Cargo.toml"
CARGO_TARGET_DIR=$work/target build "$work/old" old

: > "$work/pairs"
for ((round = 1; round <= rounds; round++)); do
    # Every other round begins with the other one.
    order=(old new)
    [ $((round % 2)) = 0 ] || order=(new old)
    for name in "${order[@]}"; do
        "$work/pair-$name" --bench | sed "s/^/$round $name /" >> "$work/pairs"
    done
    echo "pair $round of $rounds"
done
awk '{ rate[$1, $3, $2] = $4; cpu[$1, $3, $2] = $5; rounds = $1; if (!($3 in seen)) { seen[$3]; modes[++n] = $3 } }
    function median(values, count,    i, j, t) {
        for (i = 2; i <= count; i++)
            for (j = i; j > 1 && values[j] < values[j - 1]; j--) { t = values[j]; values[j] = values[j - 1]; values[j - 1] = t }
        return (values[int((count + 1) / 2)] + values[int(count / 2) + 1]) / 2
    }
    END {
        printf "%-16s %20s %22s %14s\n", "mode", "claims/s new to old", "processor new to old", "new claims/s"
        for (m = 1; m <= n; m++) {
            for (r = 1; r <= rounds; r++) {
                a[r] = rate[r, modes[m], "new"] / rate[r, modes[m], "old"]
                b[r] = cpu[r, modes[m], "new"] / cpu[r, modes[m], "old"]
                c[r] = rate[r, modes[m], "new"]
            }
            printf "%-16s %20.3f %22.3f %14.0f\n", modes[m], median(a, rounds), median(b, rounds), median(c, rounds)
        }
    }' "$work/pairs"
