#!/bin/sh
# The container's first process: makes the cluster where there is none, brings roles, passwords and extensions to what
# this folder and the secrets say, at each start and before anybody can connect, and becomes PostgreSQL.
# Cut short at any moment, the next start goes on from there.
set -eu
umask 077
own=/etc/homelab
unfinished=${PGDATA%/*}/unfinished

fail() {
    echo "homelab: $1" >&2
    exit 1
}

programs=$(dirname "$(readlink -f "$(command -v postgres)")")
born=
major=$(postgres --version | sed 's/^[^0-9]*\([0-9]*\).*/\1/')
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    rm -rf "$unfinished"
    initdb --pgdata="$unfinished" --username=postgres --encoding=UTF8 --locale=C.UTF-8 --data-checksums \
        --auth-local=peer --auth-host=scram-sha-256 >/dev/null
    if [ -d "$PGDATA" ]; then rmdir "$PGDATA"; fi
    mv "$unfinished" "$PGDATA" # whole, or not there
    sync
    born=now
fi
has=$(cat "$PGDATA/PG_VERSION")
[ "$has" = "$major" ] || fail "the volume holds PostgreSQL $has, the image is $major. Back to an image of $has, then: \
homelab-agent db dump, another volume, homelab-agent db load"

# A quarter of the limit for its own cache; what the kernel caches counts against the limit, too, but can be dropped.
set -- -c "config_file=$own/postgresql.conf" -c "hba_file=$own/pg_hba.conf" \
    -c "shared_buffers=$((MEMORY_MB / 4))MB" -c "effective_cache_size=$((MEMORY_MB * 5 / 8))MB" \
    -c "maintenance_work_mem=$((MEMORY_MB / 16))MB" -c "work_mem=$((MEMORY_MB / 128 + 1))MB"
preloaded=
if [ -e "$programs/../lib/timescaledb.so" ]; then
    preloaded=timescaledb
    set -- "$@" -c "shared_preload_libraries=$preloaded" -c timescaledb.telemetry_level=off \
        -c timescaledb.max_background_workers=4
fi

trap 'pg_ctl --pgdata="$PGDATA" --mode=fast stop >/dev/null 2>&1 || :; exit 0' INT TERM
pg_ctl --pgdata="$PGDATA" --silent --wait --timeout=3600 --options="$* -c listen_addresses=''" start
# It takes the lock file of one that was killed two seconds ago for its own, where that had the same number.
until pg_isready --quiet --host=/var/run/postgresql --username=postgres --dbname=postgres; do
    pg_ctl --pgdata="$PGDATA" status >/dev/null
    sleep 0.1
done
ask() { psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username=postgres "$@" >/dev/null; }
ask --dbname=postgres --file="$own/roles.sql"
# What another version of the image brings; it has to be the first statement of a session. A failure keeps the version
# that there is.
if [ -n "$preloaded" ] && [ -z "$born" ]; then
    ask --dbname=homelab --command="ALTER EXTENSION timescaledb UPDATE" || echo "homelab: TimescaleDB stays as it is" >&2
fi
ask --dbname=homelab --file="$own/database.sql"
pg_ctl --pgdata="$PGDATA" --silent --wait --mode=fast stop
trap - INT TERM
exec postgres "$@"
