"""Tells a container engine whether the process in this container answers; exits 0 or 1.

Runs every few seconds beside the process, so it must cost next to nothing: it is started as
`python3 -I -S` and imports a socket only. It asks HEALTH_URL: `http://host:port/path`,
`https://…` (then the certificate is not looked at: the question is about a life, not a name), or
`tcp://host:port`, which only has to take a connection.
"""

import os
import socket
import sys


def main() -> int:
    """Ask once; the answer must begin with a 200."""
    url = os.environ.get("HEALTH_URL", "")
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    host, _, port = authority.partition(":")
    if scheme not in ("http", "https", "tcp") or not host:
        print(f"HEALTH_URL is {url!r}, expected (http|https|tcp)://host:port", file=sys.stderr)
        return 1
    try:
        connection = socket.create_connection(
            (host, int(port or (443 if scheme == "https" else 80))), 3
        )
        if scheme == "https":
            connection = _encrypted(connection, host)
        with connection:
            if scheme == "tcp":
                return 0
            request = f"GET {slash}{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            connection.sendall(request.encode())
            answer = connection.recv(1024)
    except (OSError, ValueError) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1
    first = answer.split(b"\r\n", 1)[0].decode("latin-1")
    print(first)
    return 0 if first.split(" ")[1:2] == ["200"] else 1


def _encrypted(connection: socket.socket, host: str) -> socket.socket:
    import ssl  # ten milliseconds that only the edge needs

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connection, server_hostname=host)


if __name__ == "__main__":
    sys.exit(main())
