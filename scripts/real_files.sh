#!/usr/bin/env bash
# Compares `firstseen dedup` with awk on real files, and kills it at random moments.
#
#   scripts/real_files.sh [KILLS]          (default: 20 kills per file)
#
# The files are those that a Debian machine has or can get from its package archive: the file lists of all packages
# (several million lines), the names of all files on this machine, git object ids of system files, and the package
# manager's log. Prints a table; any difference is an error.
set -euo pipefail
cd "$(dirname "$0")/.."
kills=${1:-20}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cargo build --release --quiet
target=${CARGO_TARGET_DIR:-target}
bin=$(cd "$target" && pwd)/release/firstseen

contents() { # the archive's file lists, if this machine can fetch them
  if ! ls /var/lib/apt/lists/*Contents* >/dev/null 2>&1; then
    (apt-get install -y -qq apt-file && apt-file update) >/dev/null 2>&1 || return 0
  fi
  for list in /var/lib/apt/lists/*_main_Contents-*; do
    /usr/lib/apt/apt-helper cat-file "$list"
  done | head -n 4000000 || true # head closes the pipe early
}

contents > "$work/package-files"
# With repeated names, as from a crawler that starts again.
{ find / -xdev -type f; find /usr /var /etc -xdev; } > "$work/file-names" 2>/dev/null || true
{ find /usr -xdev -type f -size -64k 2>/dev/null | head -n 120000 | git hash-object --no-filters --stdin-paths 2>/dev/null
  git rev-list --objects --all | cut -d' ' -f1; } > "$work/git-objects" || true
cat /var/log/dpkg.log* /var/log/apt/*.log 2>/dev/null > "$work/package-log" || true

printf '%-14s %10s %10s   %s\n' file lines distinct result
lines_in_all=0
for file in package-files file-names git-objects package-log; do
  in=$work/$file
  lines=$(wc -l < "$in")
  [ "$lines" -gt 0 ] || { printf '%-14s %10s\n' "$file" "not on this machine"; continue; }
  lines_in_all=$((lines_in_all + lines))
  # Both sides pass through empty lines. Lines of more than 1,024 bytes are taken not to repeat.
  LC_ALL=C awk 'length($0) == 0 || length($0) > 1024 || !seen[$0]++' "$in" > "$work/expected"
  distinct=$(wc -l < "$work/expected")

  store=$work/store; rm -rf "$store"
  "$bin" dedup "$in" --store "$store" --on-bad-input pass > "$work/out" 2>/dev/null
  cmp -s "$work/expected" "$work/out" || { echo "$file: differs from awk"; exit 1; }
  # A second run prints nothing. (Lines that are not ids are dropped.)
  again=$("$bin" dedup "$in" --store "$store" --on-bad-input drop 2>/dev/null | wc -l)
  [ "$again" = 0 ] || { echo "$file: $again lines are new the second time"; exit 1; }

  # Killed at random moments over the same input, each run appending to one output.
  rm -rf "$store"; : > "$work/out"
  for ((n = 0; n < kills; n++)); do
    "$bin" dedup "$in" --store "$store" --on-bad-input drop >> "$work/out" 2>/dev/null &
    pid=$!
    sleep "$(awk -v s="$RANDOM" 'BEGIN { printf "%.3f", 0.01 + s / 32768 * 0.6 }')"
    kill -9 "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  "$bin" dedup "$in" --store "$store" --on-bad-input drop >> "$work/out" 2>/dev/null
  # Every distinct line is there, even if a kill interrupted its write.
  LC_ALL=C awk 'length($0) > 0 && length($0) <= 1024 && !seen[$0]++' "$in" | LC_ALL=C sort > "$work/expected"
  lost=$(LC_ALL=C sort -u "$work/out" | LC_ALL=C comm -23 "$work/expected" - | wc -l)
  [ "$lost" = 0 ] || { echo "$file: $lost lines lost after $kills kills"; exit 1; }
  twice=$(($(wc -l < "$work/out") - $(wc -l < "$work/expected")))
  "$bin" verify --store "$store" > /dev/null
  printf '%-14s %10d %10d   equals awk; %d kills: 0 lines lost, %d printed twice\n' \
    "$file" "$lines" "$distinct" "$kills" "$twice"
done
echo "$lines_in_all lines in all"
