# Tells a container engine whether the process in this container answers; run by bash.
#
# It runs every few seconds beside the process for as long as that lives, so it costs next to
# nothing: bash alone, no other program. It asks HEALTH_PATH (/health/ready unless set) on
# HEALTH_PORT; a 200 or a redirect is health. An empty HEALTH_PATH: to take a connection is enough.
exec 3<>"/dev/tcp/${HEALTH_HOST:-127.0.0.1}/${HEALTH_PORT:?}" || exit 1
path=${HEALTH_PATH-/health/ready}
[ -n "$path" ] || exit 0
printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$path" >&3
read -r -t 3 -u 3 line || exit 1
printf '%s\n' "$line"
[[ $line == *' 200 '* || $line == *' 301 '* ]]
