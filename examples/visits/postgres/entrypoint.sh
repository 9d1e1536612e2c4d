#!/bin/sh
# Starts PostgreSQL. On an empty volume it first makes the database that POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB name.
set -eu

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    : "${POSTGRES_PASSWORD:?must be set to make the database}"
    user=${POSTGRES_USER:-postgres}
    # Made beside and moved into place: a start that was cut off leaves nothing that looks finished.
    unfinished=$PGDATA.unfinished
    rm -rf "$unfinished"
    printf '%s\n' "$POSTGRES_PASSWORD" >/tmp/password
    initdb --pgdata="$unfinished" --username="$user" --pwfile=/tmp/password --encoding=UTF8 --locale=C.UTF-8 --auth-local=trust --auth-host=scram-sha-256
    rm /tmp/password
    echo "host all all all scram-sha-256" >>"$unfinished/pg_hba.conf"
    if [ "${POSTGRES_DB:-$user}" != postgres ]; then
        echo "CREATE DATABASE \"${POSTGRES_DB:-$user}\"" | postgres --single -D "$unfinished" postgres
    fi
    mv "$unfinished" "$PGDATA"
fi

# The shell makes way, so that PostgreSQL gets the signals itself.
exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/tmp "$@"
