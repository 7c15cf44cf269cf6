#!/bin/sh
# As the official image does: options in front mean redis-server, the server runs as the user
# redis, and without a configuration file other containers may connect.
set -eu

case "${1:-}" in
'' | -* | *.conf) set -- redis-server "$@" ;;
esac
if [ "$1" = redis-server ]; then
  if [ "$(id -u)" = 0 ]; then
    chown redis:redis .
    exec setpriv --reuid=redis --regid=redis --clear-groups "$0" "$@"
  fi
  case "${2:-}" in
  '' | -*) set -- "$@" --protected-mode no ;;
  esac
fi
exec "$@"
