#!/usr/bin/env bash
# Plants faults: each patch in tests/planted breaks the engine in one way and names the checks that notice. Every check
# must first pass on the unchanged tree; then each patch is applied to a copy of it, and its checks must fail.
#
#   scripts/planted.sh [--jobs N] [--only NAME]... [--caught-by BINARY] [--adapters] [--part N/M]
#
# --only        only patches with NAME in their name
# --caught-by   only patches that this test binary notices (it, promises, crash, ...)
# --adapters    only patches of the adapters, whose tests start real servers (scripts/servers.sh --install); without it
#               and without --only these are left out
# --part        only every M-th patch, from the N-th on (counted from 0)
#
# A patch that does not apply, does not compile or has a bad header is an error, not a catch; so is a check that ends
# without a result, unless the header expects a hang. Logs stay in target/planted/logs.
set -euo pipefail
cd "$(dirname "$0")/.."

jobs=2
only=()
binary=
adapters=no
part=0/1
while [ $# -gt 0 ]; do
  case $1 in
    --jobs) jobs=${2:?--jobs needs a number}; shift 2 ;;
    --only) only+=("${2:?--only needs a name}"); shift 2 ;;
    --caught-by) binary=${2:?--caught-by needs a test binary}; shift 2 ;;
    --adapters) adapters=yes; shift ;;
    --part) part=${2:?--part needs N/M}; shift 2 ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done

seconds_max=120 # for a check that should not hang; the slowest takes a tenth of it
root=$PWD
built=${CARGO_TARGET_DIR:-target}/debug
work=$root/target/planted
rm -rf "$work/state" "$work/logs"
mkdir -p "$work/state" "$work/logs"
# Without optimisation of our own code: each fault costs a build, which takes a quarter of the time then, and one check.
export CARGO_PROFILE_DEV_OPT_LEVEL=0
export CARGO_PROFILE_DEV_DEBUG=0 CARGO_TERM_COLOR=never RUST_BACKTRACE=0
export FIRSTSEEN_SERVERS_BIN=${FIRSTSEEN_SERVERS_BIN:-$root/target/servers/bin}

fields() { sed -n "/^--- /q; s/^$2: *//p" "$1"; } # the values of a field in the header of a patch
words() { tr ' ' '\n' <<< "$1"; }
env_of() { words "$1" | grep -E '^[A-Z_]+=' || true; }
target_of() { words "$1" | grep -vE '^[A-Z_]+=' | head -n -1 | tr '\n' ' '; } # --lib or --test NAME, perhaps with package or features
filter_of() { words "$1" | tail -n 1; }
short() { local target; target=$(target_of "$1"); target=${target% }; target=${target##* }; echo "${target#--}::$(filter_of "$1")"; }

# Updates a worker's copy of the tree. Writes only what differs, so that little is recompiled, and in few processes.
copy_tree() {
  local tree=$1
  mkdir -p "$tree"
  git ls-files -z --cached --others --exclude-standard | { xargs -0 -r sha1sum 2>/dev/null || true; } | sort > "$tree.wanted"
  (cd "$tree" && find . -type f -printf '%P\0' | xargs -0 -r sha1sum) | sort > "$tree.there"
  # The copy of an earlier run may have files that are gone from the tree.
  comm -13 <(cut -c43- "$tree.wanted" | sort) <(cut -c43- "$tree.there" | sort) | (cd "$tree" && xargs -d '\n' -r rm)
  comm -23 "$tree.wanted" "$tree.there" | cut -c43- | xargs -d '\n' -r cp --parents -t "$tree"
}

# Reuses the dependencies compiled for the tests.
copy_dependencies() {
  local target=$1
  [ -d "$built/deps" ] && [ ! -d "$target/debug" ] || return 0
  mkdir -p "$target/debug/deps"
  cp -a "$built/build" "$built/.fingerprint" "$target/debug/"
  find "$built/deps" -maxdepth 1 \( -name '*.rlib' -o -name '*.rmeta' -o -name '*.so' -o -name '*.d' \) \
    ! -name '*firstseen*' -exec cp -a -t "$target/debug/deps" {} +
}

# Builds and runs one check. Exit code: 0 passed, 1 failed, 2 no result, 3 not built, 4 hung.
run_check() {
  local tree=$1 check=$2 seconds=$3 log=$4 target binary result=0
  target=$(target_of "$check")
  # shellcheck disable=SC2086 # the target is several words
  (cd "$tree" && cargo test --locked $target --no-run \
    --message-format=json-render-diagnostics) > "$log.json" 2> "$log" || { rm "$log.json"; return 3; }
  # Run without cargo, which would check everything once more. The profile identifies a test binary; the target also
  # matches the command.
  binary=$(grep -E '"profile":\{[^}]*"test":true' "$log.json" | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
  rm "$log.json"
  [ -x "$binary" ] || return 3
  # shellcheck disable=SC2046
  (cd "$tree" && env CARGO_MANIFEST_DIR="$tree" $(env_of "$check") timeout --kill-after 5 "$seconds" \
    "$binary" "$(filter_of "$check")") >> "$log" 2>&1 || result=$?
  if [ $result = 124 ] || [ $result = 137 ]; then return 4; fi
  if grep -qE '^test result: FAILED\. [0-9]+ passed; [1-9]' "$log"; then return 1; fi
  if grep -qE '^test result: ok\. [1-9][0-9]* passed; 0 failed' "$log"; then return 0; fi
  return 2
}

seconds_since() { awk -v a="$1" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f s", b - a }'; }

# Runs a check on the unchanged tree: if it fails here, its failing later proves nothing.
try_check() {
  local tree=$1 check=$2 name answer=0 began
  name=$(short "$check")
  began=$(date +%s.%N)
  run_check "$tree" "$check" "$seconds_max" "$work/logs/sound-${name//:/-}.log" || answer=$?
  if [ $answer = 0 ]; then
    echo "passes  $name  ($(seconds_since "$began"))"
  else
    echo "ERROR   $name does not pass on the unchanged tree (target/planted/logs/sound-${name//:/-}.log)"
    touch "$work/state/error"
  fi
}

try_patch() {
  local tree=$1 patch=$2 name began verdict=caught by=() check answer hang log
  name=$(basename "$patch" .patch)
  log=$work/logs/$name.log
  began=$(date +%s.%N)
  hang=$(fields "$patch" hang)
  if ! patch --directory "$tree" --strip 1 --forward --fuzz 0 --no-backup-if-mismatch --reject-file - \
    < "$patch" > "$log" 2>&1; then
    verdict="ERROR   $name does not apply"
  else
    while IFS= read -r check; do
      answer=0
      run_check "$tree" "$check" "${hang:-$seconds_max}" "$log" || answer=$?
      case $answer in
        0) verdict=SURVIVED; break ;;
        1) by+=("$(short "$check")") ;;
        4) [ -n "$hang" ] && by+=("$(short "$check"), which hangs") || { verdict="ERROR   $name hangs"; break; } ;;
        3) verdict="ERROR   $name does not compile"; break ;;
        *) verdict="ERROR   $name: the check ends without a result"; break ;;
      esac
    done < <(fields "$patch" "caught by")
  fi
  # Revert the patch.
  sed -n 's|^+++ b/||p' "$patch" | while IFS= read -r file; do cp "$root/$file" "$tree/$file"; done
  case $verdict in
    caught) echo "caught  $name  by $(printf '%s, ' "${by[@]}" | sed 's/, $//')  ($(seconds_since "$began"))"
            touch "$work/state/caught-$name" ;;
    SURVIVED) echo "SURVIVED  $name: $(short "$check") passes  ($(seconds_since "$began"))" ;;
    *) echo "$verdict (target/planted/logs/$name.log)"; touch "$work/state/error" ;;
  esac
}

# Takes tasks from a list until none is left. Lists are sorted by test binary, and every other worker starts from the
# end, so that each worker rebuilds few of the binaries.
worker() {
  local number=$1 what=$2 list=$3 tree=$work/tree-$1 task
  export CARGO_TARGET_DIR=$work/target-$number
  { if [ $((number % 2)) = 1 ]; then cat "$list"; else tac "$list"; fi; } | while IFS= read -r task; do
    mkdir "$work/state/taken-$(cksum <<< "$what $task" | tr ' ' -)" 2>/dev/null || continue
    "$what" "$tree" "$task" < /dev/null
  done
}

each() { # runs a function for every line of a list, on all workers
  local number
  for ((number = 1; number <= jobs; number++)); do worker "$number" "$1" "$2" & done
  wait
}

patches=()
number=0
for patch in tests/planted/*.patch; do
  wanted=${#only[@]} own=${patch##*/}
  for name in ${only[@]+"${only[@]}"}; do
    if [[ ${own%.patch} == *"$name"* ]]; then wanted=0; fi
  done
  [ "$wanted" = 0 ] || continue
  case $adapters,$(fields "$patch" "caught by") in
    no,*--package*) [ ${#only[@]} -gt 0 ] || continue ;;
    yes,*--package*) ;;
    yes,*) continue ;;
  esac
  [ -z "$binary" ] || fields "$patch" "caught by" | grep -q -- "--test $binary " || continue
  for field in what breaks "caught by"; do
    [ -n "$(fields "$patch" "$field")" ] || { echo "ERROR   $patch has no '$field:'"; exit 1; }
  done
  number=$((number + 1))
  [ $(((number - 1) % ${part#*/})) = "${part%/*}" ] || continue
  patches+=("$root/$patch")
done
[ ${#patches[@]} -gt 0 ] || { echo "no such patch" >&2; exit 2; }

began=$(date +%s)
for ((number = 1; number <= jobs; number++)); do
  copy_tree "$work/tree-$number"
  copy_dependencies "$work/target-$number"
done
for patch in "${patches[@]}"; do
  while IFS= read -r check; do echo "$(target_of "$check")|$check|$patch"; done < <(fields "$patch" "caught by")
done | sort > "$work/state/all"
cut -d'|' -f2 "$work/state/all" | awk '!seen[$0]++' > "$work/state/checks"
cut -d'|' -f3 "$work/state/all" | awk '!seen[$0]++' > "$work/state/patches"

each try_check "$work/state/checks"
if [ -e "$work/state/error" ]; then exit 1; fi
each try_patch "$work/state/patches"

caught=$(find "$work/state" -name 'caught-*' | wc -l)
echo "proof | planted faults | $caught | of ${#patches[@]} caught | $(wc -l < "$work/state/checks") checks that pass without them | $(($(date +%s) - began)) s"
[ "$caught" = ${#patches[@]} ] && [ ! -e "$work/state/error" ]
