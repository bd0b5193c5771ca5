#!/usr/bin/env bash
# Shows that Miri and the sanitizers can fail: each patch in tests/planted_tools plants a fault of the kind that its
# tool is for, and the tool, run as in scripts/proof.sh, must report that kind.
#
#   scripts/planted_tools.sh [NAME]...      NAME: name of a patch, without its extension
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD
work=$root/target/planted-tools
tree=$work/tree
mkdir -p "$work" target

field() { sed -n "/^--- /q; s/^$2: *//p" "$1"; }

names=("$@")
if [ ${#names[@]} = 0 ]; then
    for patch in tests/planted_tools/*.patch; do names+=("$(basename "$patch" .patch)"); done
fi

caught=0
for name in "${names[@]}"; do
    patch=tests/planted_tools/$name.patch
    log=$work/$name.log
    rm -rf "$tree"
    mkdir -p "$tree/target"
    # Reuse the built dependencies, but rebuild our own crates, in a separate folder: Miri records the source folder,
    # and a build of the faulty source would be taken for a good one.
    built=target/$(field "$patch" built)
    [ ! -d "$built" ] || cp -a --reflink=auto "$built" "$tree/target/"
    find "$tree/target" -name '*firstseen*' -prune -exec rm -rf {} +
    git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$tree"
    patch --directory "$tree" --strip 1 --forward --fuzz 0 --quiet < "$patch"
    read -ra command <<< "$(field "$patch" run)"
    if (cd "$tree" && "${command[@]}") > "$log" 2>&1; then
        if grep -q '^NOT RUN' "$log"; then
            grep '^NOT RUN' "$log" | sed 's/$/, so not the fault planted for it/'
        else
            echo "SURVIVED  $name: $(field "$patch" what)"
        fi
    elif grep -qF "$(field "$patch" says)" "$log"; then
        echo "caught  $name: $(field "$patch" says)"
        caught=$((caught + 1))
    else
        echo "ERROR   $name fails in another way (target/planted-tools/$name.log)"
    fi
done
echo "proof | faults planted for tools | $caught | of ${#names[@]} caught | Miri, thread sanitizer, address sanitizer"
[ "$caught" = ${#names[@]} ]
