#!/usr/bin/env bash
# Tests scripts/carry_planted.sh on copies of the tree: changes a name, a folder and the indentation so that many
# patches no longer apply, and carries them. Each must then plant the same fault in the changed tree.
set -euo pipefail
cd "$(dirname "$0")/.."
began=$SECONDS
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
carried=0

commit() { git -C "$1" add -A && git -C "$1" -c user.name=x -c user.email=x -c commit.gpgsign=false commit -qm x; }
applies() { sed -n '/^--- /,$p' "$2" | patch --directory "$1" --strip 1 --forward --fuzz 0 --no-backup-if-mismatch \
    --reject-file - "${@:3}" >/dev/null 2>&1; }

mkdir "$work/start"
git ls-files -z --cached --others --exclude-standard -- src crates tests scripts Cargo.toml Cargo.lock rustfmt.toml | xargs -0 cp --parents --no-dereference -t "$work/start"
git -C "$work/start" init -q
commit "$work/start"

# The name in most patches, and the folder that most patches change.
name=$(sed -n 's/^[ -]//p' tests/planted/*.patch | grep -oE '\b[a-z]+_[a-z_]+\b' |
    grep -wFf <(grep -rhoE '\bfn [a-z_]+' src | sed 's/^fn //') | sort | uniq -c | sort -rn | awk 'NR == 1 { print $2 }')
folder=$(sed -n 's|^+++ b/\(.*\)/[^/]*$|\1|p' tests/planted/*.patch | sort | uniq -c | sort -rn | awk 'NR == 1 { print $2 }')

attempt() { # label, an edit as a command, the options that describe it to the script
    local label=$1 edit=$2 new=$work/new patch name broken=0 wrong=0
    shift 2
    rm -rf "$new"
    cp -a "$work/start" "$new"
    (cd "$new" && eval "$edit")
    for patch in "$work"/start/tests/planted/*.patch; do applies "$new" "$patch" --dry-run || broken=$((broken + 1)); done
    [ "$broken" -gt 0 ] || { echo "SURVIVED  $label: all patches still apply, so nothing is shown"; exit 1; }
    (cd "$new" && scripts/carry_planted.sh "$@") > "$work/log" || { cat "$work/log"; exit 1; }
    # Old tree, fault, edit must equal old tree, edit, carried fault. Every fortieth patch is enough.
    local n=0
    for patch in "$work"/start/tests/planted/*.patch; do
        name=$(basename "$patch")
        applies "$new" "$new/tests/planted/$name" --dry-run || { echo "ERROR   $label: $name does not apply"; wrong=1; }
        n=$((n + 1))
        [ $((n % 40)) = 0 ] || continue
        rm -rf "$work/one" "$work/other"
        mkdir "$work/one" "$work/other"
        cp -a "$work/start/src" "$work/start/crates" "$work/start/tests" "$work/one"
        cp -a "$new/src" "$new/crates" "$new/tests" "$work/other"
        applies "$work/one" "$patch"
        (cd "$work/one" && eval "$edit")
        applies "$work/other" "$new/tests/planted/$name"
        diff -rq -x planted "$work/one" "$work/other" || { echo "ERROR   $label: $name is another fault now"; wrong=1; }
        [ "$(sed '/^--- /,$d' "$patch" | wc -l)" = "$(sed '/^--- /,$d' "$new/tests/planted/$name" | wc -l)" ] ||
            { echo "ERROR   $label: the header of $name"; wrong=1; }
    done
    [ $wrong = 0 ] || exit 1
    carried=$((carried + $(grep -c '^carried' "$work/log")))
    echo "$label: $broken patches no longer applied; $(tail -n 1 "$work/log")"
}

attempt "another name for $name" \
    "grep -rlw --include='*.rs' $name src crates tests | xargs sed -i 's/\\b$name\\b/renamed_for_a_test/g'" \
    --rename "$name=renamed_for_a_test"
attempt "$folder elsewhere" "mv $folder src/moved_for_a_test" --move "$folder=src/moved_for_a_test"
# The command runs on a whole tree for each patch, so only a few are kept.
n=0
for patch in "$work"/start/tests/planted/*.patch; do
    n=$((n + 1))
    [ $((n % 20)) = 0 ] || rm "$patch"
done
commit "$work/start"
attempt "another indentation" "find src -name '*.rs' -exec sed -i 's/^    /  /' {} +" \
    -- find src -name '*.rs' -exec sed -i 's/^    /  /' {} +
echo "proof | planted faults carried over edits | $carried | patches | a name, a folder, the indentation; $((SECONDS - began)) s"
