#!/bin/sh
# Starts PostgreSQL. On an empty volume it first makes the database that POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB name.
set -eu

if [ "$(id -u)" = 0 ]; then
    # A new volume is root's, and PostgreSQL never runs as root.
    mkdir -p "$PGDATA"
    [ "$(stat -c %U "$PGDATA")" = postgres ] || chown -R postgres:postgres "$PGDATA"
    chmod 0700 "$PGDATA"
    exec chroot --userspec=postgres:postgres / "$0" "$@"
fi

# Made in a directory of its own and moved up: a start that was cut off leaves that directory, and the next begins anew.
unfinished=$PGDATA/unfinished
if [ -e "$unfinished" ] || [ ! -s "$PGDATA/PG_VERSION" ]; then
    : "${POSTGRES_PASSWORD:?must be set to make the database}"
    user=${POSTGRES_USER:-postgres}
    [ ! -e "$unfinished" ] || rm -rf "${PGDATA:?}"/*
    printf '%s\n' "$POSTGRES_PASSWORD" >/tmp/password
    initdb --pgdata="$unfinished" --username="$user" --pwfile=/tmp/password --encoding=UTF8 --locale=C.UTF-8 --auth-local=trust --auth-host=scram-sha-256
    rm /tmp/password
    echo "host all all all scram-sha-256" >>"$unfinished/pg_hba.conf"
    if [ "${POSTGRES_DB:-$user}" != postgres ]; then
        echo "CREATE DATABASE \"${POSTGRES_DB:-$user}\"" | postgres --single -D "$unfinished" postgres
    fi
    mv "$unfinished"/* "$PGDATA"
    rmdir "$unfinished"
fi

# The shell makes way, so that PostgreSQL gets the signals itself.
exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/tmp "$@"
