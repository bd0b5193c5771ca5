#!/usr/bin/env bash
# Carries planted faults over a rename, a move or any other edit: rebases the patches in tests/planted that no longer
# apply to the current tree, from a revision to which they did apply.
#
#   scripts/carry_planted.sh [--check] [OLD] [--rename OLD_NAME=NEW_NAME]... [--move OLD_PATH=NEW_PATH]...
#                            [-- COMMAND...]
#
# OLD          a revision to which the patches apply (default: HEAD, for an edit that is not committed yet)
# --rename     a word that was renamed in src/, crates/ and tests/; also renamed in `caught by`
# --move       a file or folder that was moved
# -- COMMAND   any other edit that can be repeated: a command that runs at the root of a tree (cargo fmt, ...)
# --check      change nothing, and fail if a patch cannot be carried
#
# For each patch, the edit is applied to OLD and to OLD with the fault, and their difference is merged into the current
# tree. Manual edits near a fault are merged as git would; a patch with a conflict is reported and left alone.
# scripts/planted.sh --only NAME shows whether the fault is still caught.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" | grep -v '^set' >&2; exit 2; }
old=HEAD check=no renames=() moves=() command=()
while [ $# -gt 0 ]; do
    case $1 in
        --check) check=yes ;;
        --rename) [[ ${2:-} =~ ^[A-Za-z0-9_]+=[A-Za-z0-9_]+$ ]] || usage; renames+=("$2"); shift ;;
        --move) [[ ${2:-} == ?*=?* ]] || usage; moves+=("$2"); shift ;;
        --) shift; command=("$@"); break ;;
        -*) usage ;;
        *) old=$1 ;;
    esac
    shift
done
git rev-parse --quiet --verify "$old^{commit}" >/dev/null || { echo "there is no revision $old" >&2; exit 2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

header() { sed '/^--- /,$d' "$1"; }
body() { sed -n '/^--- /,$p' "$1"; }
applies() { body "$1" | patch --directory "$2" --strip 1 --forward --fuzz 0 --dry-run --reject-file - >/dev/null 2>&1; }

# The edit made to the tree since OLD.
edit() (
    cd "$1"
    local pair
    for pair in ${moves[@]+"${moves[@]}"}; do
        [ -e "${pair%%=*}" ] || continue
        mkdir -p "$(dirname "${pair#*=}")"
        mv "${pair%%=*}" "${pair#*=}"
    done
    for pair in ${renames[@]+"${renames[@]}"}; do
        { grep -rlZsw --include='*.rs' -- "${pair%%=*}" src crates tests || true; } |
            xargs -0 -r sed -i "s/\b${pair%%=*}\b/${pair#*=}/g"
    done
    [ ${#command[@]} = 0 ] || "${command[@]}" >&2
)

mkdir "$work/old"
# Only what a patch can change or a command may need, as it is copied for every patch. The patches are those of the
# current tree.
git archive "$old" -- $(git ls-tree --name-only "$old" | grep -E "^(src|crates|tests|Cargo\..*|rustfmt.toml)$") | tar -x -C "$work/old"
rm -rf "$work/old/tests/planted"
cp -a "$work/old" "$work/base"
edit "$work/base"

# Writes the patch that plants the fault in the current tree. Prints the reason if it fails.
carry() {
    local patch=$1 file rest
    rm -rf "$work/broken" "$work/a" "$work/b"
    if [ ${#command[@]} = 0 ]; then
        # A rename or a move needs only the files of the patch.
        mkdir "$work/broken"
        body "$patch" | sed -n 's|^+++ b/||p' | (cd "$work/old" && xargs cp --parents -t "$work/broken") || return 1
    else
        cp -a "$work/old" "$work/broken"
    fi
    if ! body "$patch" | patch --directory "$work/broken" --strip 1 --forward --fuzz 0 --no-backup-if-mismatch \
        --reject-file - >/dev/null 2>&1; then
        echo "does not apply to $old either"
        return 1
    fi
    edit "$work/broken"
    while IFS= read -r file; do
        file=${file#"$work/base/"}
        [ -f "$root/$file" ] && [ -f "$work/broken/$file" ] || { echo "there is no $file now (--move?)"; return 1; }
        mkdir -p "$work/a/$(dirname "$file")" "$work/b/$(dirname "$file")"
        cp "$root/$file" "$work/a/$file"
        git merge-file --quiet -p "$root/$file" "$work/base/$file" "$work/broken/$file" > "$work/b/$file" ||
            { echo "a conflict in $file"; return 1; }
    done < <(diff -rq "$work/base" "$work/broken" | sed -n 's/^Files \(.*\) and .* differ$/\1/p')
    [ -d "$work/a" ] || { echo "the edit removed the fault"; return 1; }
    rest=$(header "$patch")
    local pair
    for pair in ${renames[@]+"${renames[@]}"}; do
        rest=$(sed "/^caught by:/s/\b${pair%%=*}\b/${pair#*=}/g" <<< "$rest")
    done
    {
        printf '%s\n\n' "$rest"
        (cd "$work" && git diff --no-index --no-color --no-renames -U2 a b || true) |
            sed -E '/^(diff|index) /d; s|^--- a/a/|--- a/|; s|^\+\+\+ b/b/|+++ b/|; s/^(@@ [^@]* @@).*/\1/'
    } > "$work/new.patch"
    applies "$work/new.patch" "$root" || { echo "the new patch does not apply"; return 1; }
}

kept=0 carried=0 failed=0
for patch in tests/planted/*.patch; do
    named=no # it has a renamed word, perhaps only in a line that it adds
    for pair in ${renames[@]+"${renames[@]}"}; do
        if grep -qw -- "${pair%%=*}" "$patch"; then named=yes; fi
    done
    if [ $named = no ] && applies "$patch" "$root"; then
        kept=$((kept + 1))
    elif why=$(carry "$patch"); then
        carried=$((carried + 1))
        [ $check = yes ] || cp "$work/new.patch" "$patch"
        echo "carried  $(basename "$patch" .patch)"
    else
        failed=$((failed + 1))
        echo "BY HAND  $(basename "$patch" .patch): $why"
    fi
done
echo "$carried carried, $kept apply as they are, $failed by hand"
[ $failed = 0 ]
