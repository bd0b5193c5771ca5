#!/usr/bin/env bash
# The programs of the README's table of patterns that read a stream, on a million events each: once undisturbed, which is
# timed, and once killed a hundred times. Prints what each says of itself, then a table.
#
#   scripts/patterns.sh                                     a quarter of an hour on two cores
#   scripts/patterns.sh --events 100000 --kills 20 loyalty two_phase
#
# Whatever a program finds to be lost or doubled ends it with an error, and this too. The one with Postgres gets a server of its
# own; where none is installed, it says NOT RUN. Run it on a machine that does nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."
events=1000000
kills=100
programs=()
while [ $# -gt 0 ]; do
    case $1 in
        --events | --kills)
            [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || { echo "$1 needs a number" >&2; exit 2; }
            declare "${1#--}=$2"
            shift 2
            ;;
        -*) echo "unknown option $1; see the top of $0" >&2; exit 2 ;;
        *) programs+=("$1"); shift ;;
    esac
done
[ ${#programs[@]} -gt 0 ] || programs=(loyalty financial_close page_views order_pipeline two_phase two_phase_postgres)

flags_of() { # what its row of the README's table asks for beside kills
    case $1 in
        loyalty | two_phase) echo --check ;;
        financial_close) echo --replay ;;
    esac
}

scratch=$(mktemp -d)
server=
clean_up() {
    [ -z "$server" ] || { kill -INT "$server" && wait "$server"; } 2>/dev/null || true
    rm -rf "$scratch"
}
trap clean_up EXIT

# Postgres runs as a user of its own where this is root.
as_postgres=()
[ "$(id -u)" != 0 ] || as_postgres=(setpriv --reuid=postgres --regid=postgres --clear-groups)

start_postgres() {
    local initdb bin port
    # Debian keeps it out of PATH.
    initdb=$(compgen -G '/usr/lib/postgresql/*/bin/initdb' | sort -V | tail -n 1) || initdb=$(command -v initdb) || return 0
    bin=$(dirname "$initdb")
    port=$((20000 + RANDOM % 20000))
    mkdir "$scratch/postgres"
    chmod 755 "$scratch"
    [ "$(id -u)" != 0 ] || chown postgres "$scratch/postgres"
    ${as_postgres[@]+"${as_postgres[@]}"} "$bin/initdb" -A trust -U postgres --no-sync -D "$scratch/postgres/data" >/dev/null
    ${as_postgres[@]+"${as_postgres[@]}"} "$bin/postgres" -D "$scratch/postgres/data" -h 127.0.0.1 -p "$port" -k "$scratch/postgres" \
        -c max_prepared_transactions=64 > "$scratch/postgres.log" 2>&1 &
    server=$!
    export FIRSTSEEN_POSTGRES="host=127.0.0.1 port=$port user=postgres dbname=postgres"
    until psql "$FIRSTSEEN_POSTGRES" -c 'SELECT 1' >/dev/null 2>&1; do
        kill -0 "$server" || { cat "$scratch/postgres.log" >&2; exit 1; }
        sleep 0.2
    done
}

examples=()
for program in "${programs[@]}"; do examples+=(--example "$program"); done
cargo build --release --locked --quiet "${examples[@]}"
bin=${CARGO_TARGET_DIR:-target}/release/examples
[[ " ${programs[*]} " != *" two_phase_postgres "* ]] || start_postgres

run() { # program, kills: prints what it says, after its name
    local program=$1 arguments=(--generate "$events" --folder "$scratch/$1-$2")
    [ "$2" = 0 ] || arguments+=(--kills "$2")
    # shellcheck disable=SC2046 # no flag is no word
    "$bin/$program" "${arguments[@]}" $(flags_of "$program") > "$scratch/said"
    sed "s/^/$program, $2 kills: /" "$scratch/said"
    rm -rf "$scratch/$program-$2"
    [ -z "$server" ] || psql "$FIRSTSEEN_POSTGRES" -q -c 'DROP SCHEMA IF EXISTS firstseen_bank CASCADE' 2>/dev/null
}

echo "| program | events/s | bytes of disk an event | kills |" > "$scratch/table"
echo "|---|---|---|---|" >> "$scratch/table"
for program in "${programs[@]}"; do
    run "$program" 0
    price=$(sed -n 's|.*: \([0-9]*\) events/s, \([0-9.]*\) bytes.*|\1 \2|p' "$scratch/said" | head -n 1)
    run "$program" "$kills"
    killed=$(sed -n 's/^killed \([0-9]*\) times$/\1/p' "$scratch/said")
    # shellcheck disable=SC2086 # two words
    printf '| `%s` | %s | %s | %s |\n' "$program" ${price:-NOT RUN} "${killed:-NOT RUN}" >> "$scratch/table"
done
echo
echo "commit $(git rev-parse --short HEAD), $events events each"
cat "$scratch/table"
