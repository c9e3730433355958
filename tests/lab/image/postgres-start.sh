#!/bin/sh
# Starts PostgreSQL as its published image does, as far as the lab needs it: makes the database on the first start.
set -eu
PGDATA=${PGDATA:-/var/lib/postgresql/data/pg}
export PGDATA
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    : "${POSTGRES_PASSWORD:?POSTGRES_PASSWORD is not set}"
    umask 077
    printf '%s\n' "$POSTGRES_PASSWORD" >/tmp/password
    initdb -U "${POSTGRES_USER:-postgres}" --pwfile=/tmp/password --auth=scram-sha-256 --no-locale -E UTF8 --no-sync >/dev/null
    rm /tmp/password
    printf 'host all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
    if [ -n "${POSTGRES_DB:-}" ] && [ "$POSTGRES_DB" != postgres ]; then
        echo "CREATE DATABASE \"$POSTGRES_DB\"" | postgres --single -D "$PGDATA" postgres >/dev/null
    fi
fi
exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp -c fsync=off -c shared_buffers=16MB -c max_connections=20 "$@"
