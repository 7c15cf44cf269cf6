#!/bin/sh
# As the official image does: RABBITMQ_DEFAULT_USER, _PASS and _VHOST are read by the server itself;
# this gives it a cookie of its own and the user rabbitmq.
set -eu

if [ "${1:-}" = rabbitmq-server ] && [ "$(id -u)" = 0 ]; then
  chown -R rabbitmq:rabbitmq /var/lib/rabbitmq
  exec setpriv --reuid=rabbitmq --regid=rabbitmq --clear-groups "$0" "$@"
fi
exec "$@"
