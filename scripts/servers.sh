#!/usr/bin/env bash
# The adapters, with their real servers: lints and tests of the packages under crates/ that talk to a broker. Each test starts
# its server on a free port of loopback, in a temporary folder, and stops it by its process id.
#
#   scripts/servers.sh              consumers and servers killed 50 times
#   FIRSTSEEN_NATS_KILLS=500 scripts/servers.sh
#
# Installs, as root and where it is missing: nats-server. Without it the tests fail.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# = 0 ] || { echo "no options; see the top of $0" >&2; exit 2; }

if ! command -v nats-server >/dev/null; then
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        echo "installing nats-server"
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends nats-server; } >/dev/null
    else
        echo "nats-server is missing: apt-get install -y --no-install-recommends nats-server" >&2
        exit 1
    fi
fi

adapters=(--locked --package firstseen-consumer --package firstseen-nats)
cargo clippy "${adapters[@]}" --all-targets -- -D warnings
RUSTDOCFLAGS="${RUSTDOCFLAGS:-} -D warnings" cargo doc --no-deps --all-features "${adapters[@]}"
export FIRSTSEEN_NATS_KILLS=${FIRSTSEEN_NATS_KILLS:-50}
cargo test "${adapters[@]}" -- --show-output
