#!/bin/sh
# As the official image does: a cluster at the first start (POSTGRES_USER, POSTGRES_PASSWORD,
# POSTGRES_DB, POSTGRES_INITDB_ARGS, POSTGRES_HOST_AUTH_METHOD, /docker-entrypoint-initdb.d), then
# the server as the user postgres.
set -eu

case "${1:-}" in
'' | -*) set -- postgres "$@" ;;
esac
if [ "$1" != postgres ]; then
  exec "$@"
fi
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA"
  chown -R postgres:postgres "$PGDATA"
  exec setpriv --reuid=postgres --regid=postgres --clear-groups "$0" "$@"
fi
if [ -s "$PGDATA/PG_VERSION" ]; then
  exec "$@"
fi

user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}
if [ -z "${POSTGRES_PASSWORD:-}" ] && [ "${POSTGRES_HOST_AUTH_METHOD:-}" != trust ]; then
  echo "POSTGRES_PASSWORD is not set; expected the superuser's password" >&2
  exit 1
fi
chmod 700 "$PGDATA" 2>/dev/null || true
secret=$(mktemp)
printf '%s\n' "${POSTGRES_PASSWORD:-}" >"$secret"
if [ -n "${POSTGRES_PASSWORD:-}" ]; then
  # shellcheck disable=SC2086 # several arguments
  initdb --username="$user" --pwfile="$secret" ${POSTGRES_INITDB_ARGS:-} --pgdata="$PGDATA"
else
  # shellcheck disable=SC2086
  initdb --username="$user" ${POSTGRES_INITDB_ARGS:-} --pgdata="$PGDATA"
fi
rm -f "$secret"
printf '\nhost all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$PGDATA/pg_hba.conf"

echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"

# A server that only this script reaches, for what the first start makes.
export PGUSER="$user" PGPASSWORD="${POSTGRES_PASSWORD:-}" PGHOST=/var/run/postgresql
pg_ctl --pgdata="$PGDATA" --wait --silent --options="-c listen_addresses= -c unix_socket_directories=$PGHOST" start
if [ "$database" != postgres ]; then
  psql --dbname=postgres --quiet --no-psqlrc --set=ON_ERROR_STOP=1 --set=name="$database" <<'SQL'
CREATE DATABASE :"name";
SQL
fi
for file in /docker-entrypoint-initdb.d/*; do
  case "$file" in
  *.sh)
    if [ -x "$file" ]; then "$file"; else
      # shellcheck disable=SC1090
      . "$file"
    fi
    ;;
  *.sql) psql --dbname="$database" --no-psqlrc --set=ON_ERROR_STOP=1 --file="$file" ;;
  *.sql.gz) gunzip -c "$file" | psql --dbname="$database" --no-psqlrc --set=ON_ERROR_STOP=1 ;;
  esac
done
pg_ctl --pgdata="$PGDATA" --mode=fast --wait --silent stop
unset PGUSER PGPASSWORD PGHOST
echo
echo "PostgreSQL init process complete; ready for start up."
echo
exec "$@"
