#!/usr/bin/env bash
# Measures the test coverage of the library: scripts/coverage.sh. Installs cargo-llvm-cov.
#
# Prints lines and regions per module and in total, then every uncovered line that creates or returns an error. Too slow
# for every change; the result for a release is kept with its other figures.
set -euo pipefail
cd "$(dirname "$0")/.."

rustup component add llvm-tools >/dev/null 2>&1 || {
  echo "coverage needs the llvm-tools component: rustup component add llvm-tools" >&2
  exit 1
}
cargo llvm-cov --version >/dev/null 2>&1 || cargo install --locked cargo-llvm-cov

# A separate target folder keeps the usual build. Fewer rounds than by default are enough to reach a line.
export CARGO_TARGET_DIR=target/coverage
export FIRSTSEEN_MODEL_CASES=${FIRSTSEEN_MODEL_CASES:-1500}
export FIRSTSEEN_CRASH_STATES=${FIRSTSEEN_CRASH_STATES:-2000}
export FIRSTSEEN_CRASH_SCHEDULES=${FIRSTSEEN_CRASH_SCHEDULES:-1000}
export FIRSTSEEN_FAULT_RUNS=${FIRSTSEEN_FAULT_RUNS:-3000}
export FIRSTSEEN_DAMAGES=${FIRSTSEEN_DAMAGES:-1000}
cargo llvm-cov --locked --lib --bins --test it --test model --test crash --no-report
cargo llvm-cov report --json --output-path target/coverage/report.json
cargo llvm-cov report --lcov --output-path target/coverage/report.lcov

python3 - target/coverage/report.json target/coverage/report.lcov <<'PYTHON'
import collections, json, re, sys

root = "/src/"
files = json.load(open(sys.argv[1]))["data"][0]["files"]
table = collections.OrderedDict()
for file in files:
    name = file["filename"].split(root)[-1]
    # The command is tested as a separate process; tests need no coverage.
    if name.startswith("bin/") or name.endswith("tests.rs") or root not in file["filename"]:
        continue
    module = name.split("/")[0].removesuffix(".rs")
    row = table.setdefault(module, [0, 0, 0, 0])
    for at, kind in ((0, "lines"), (2, "regions")):
        row[at] += file["summary"][kind]["covered"]
        row[at + 1] += file["summary"][kind]["count"]
percent = lambda part, whole: f"{100 * part / whole:6.1f} %" if whole else "     -"
print(f"{'module':12} {'lines':>14} {'':>8} {'regions':>14}")
rows = sorted(table.items()) + [("all", [sum(c) for c in zip(*table.values())])]
for module, (line, lines, region, regions) in rows:
    print(f"{module:12} {line:6} of {lines:5} {percent(line, lines)} {region:6} of {regions:5} {percent(region, regions)}")

print("\nerrors that no test reaches:")
makes = re.compile(r"Err\(|Error::|return not\(|not\(\"")
path, missed = None, 0
for line in open(sys.argv[2]):
    if line.startswith("SF:"):
        path = line[3:].strip()
        name = path.split(root)[-1]
        text = open(path).read().split("\n") if root in path and not name.startswith("bin/") else None
        # Unit tests are at the end of a file.
        end = next((n for n, t in enumerate(text or []) if t.startswith("#[cfg(test)]")), 10**9)
    elif line.startswith("DA:") and text is not None:
        number, count = map(int, line[3:].split(",")[:2])
        if count == 0 and number <= end and makes.search(text[number - 1]):
            missed += 1
            print(f"  src/{name}:{number}: {text[number - 1].strip()}")
print(f"{missed} lines")
PYTHON
