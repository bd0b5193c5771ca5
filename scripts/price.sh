#!/usr/bin/env bash
# What the consumer loop costs: events a second on each broker, beside the same loop without dedup. Prints a table.
#
#   scripts/price.sh                     all brokers, each with its real server; a quarter of an hour on two processors
#   scripts/price.sh --brokers nats,redis --messages 20000 --rounds 5 --work 0
#
# The options: crates/price/src/arguments.rs. The servers: scripts/servers.sh --install. Run it on a machine that does nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."
export FIRSTSEEN_SERVERS_BIN=${FIRSTSEEN_SERVERS_BIN:-$PWD/target/servers/bin}
exec cargo run --release --locked --quiet --package firstseen-price -- "$@"
