"""Gives a trial's clients their addresses: TCP relays that speak the PROXY protocol (R0.16).

A published port hides who connects. So a trial connects here, says in a `PROXY TCP4` line whom it
plays, and nginx goes on to the edge or a gateway from that very address: the networks of the
clients are local to this container, so it may connect from them and answers for them on the wire.
Further plain ports lead to the services, databases, broker and cache. Names are looked up for
each connection, since a part has another address after a restart.
"""

from __future__ import annotations

import ipaddress
import os
import resource
import socket
import struct
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NoReturn

_STREAM_MODULE: Final = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
_CONFIGURATION: Final = Path("/tmp/nginx.conf")
_USER: Final = 10001
_FILES: Final = 65536

# Port here, and whom it leads to.
AS_CLIENT: Final[Mapping[int, str]] = {443: "edge:443", 80: "edge:80", 3000: "gateway:3000"}
PLAIN: Final[Mapping[int, str]] = {
    3100: "gateway:3000",  # for whoever names no address
    3001: "auth:3001",
    3002: "payments:3002",
    3003: "admin:3003",
    3004: "profile:3004",
    5432: "postgres-auth:5432",
    5433: "postgres-payments:5432",
    5434: "postgres-admin:5432",
    5435: "postgres-profile:5432",
    5436: "postgres-legacy:5432",
    5672: "rabbitmq:5672",
    15672: "rabbitmq:15672",
    15692: "rabbitmq:15692",
    6379: "redis:6379",
}

_HEAD: Final = """\
daemon off;
pid /tmp/nginx.pid;
error_log stderr warn;
worker_processes 2;
worker_rlimit_nofile {files};
events {{
    worker_connections 16384;
}}
stream {{
    resolver 127.0.0.11 valid=1s ipv6=off;
    proxy_connect_timeout 5s;
    proxy_timeout 1d;
    proxy_buffer_size 32k;
"""
_CLIENT: Final = """\
    server {{
        listen {port} proxy_protocol backlog=4096;
        set $upstream_{port} {upstream};
        proxy_bind $proxy_protocol_addr;
        proxy_pass $upstream_{port};
    }}
"""
_SERVER: Final = """\
    server {{
        listen {port} backlog=4096;
        set $upstream_{port} {upstream};
        proxy_pass $upstream_{port};
    }}
"""

# <linux/rtnetlink.h>
_RTM_NEWROUTE, _NLMSG_ERROR = 24, 2
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_REPLACE, _NLM_F_CREATE = 0x1, 0x4, 0x100, 0x400
_RT_TABLE_LOCAL, _RTPROT_BOOT, _RT_SCOPE_HOST, _RTN_LOCAL = 255, 3, 254, 2
_RTA_DST, _RTA_OIF = 1, 4


def places(text: str) -> dict[int, str]:
    """Read ``port=host:port,…``, which names further ports, or other places for known ones.

    Raises:
        ValueError: it is no such list.
    """
    pairs = (entry.split("=") for entry in text.split(",") if entry)
    return {int(port): place for port, place in pairs}


def configuration(
    *,
    load_module: bool,
    as_client: Mapping[int, str] = AS_CLIENT,
    plain: Mapping[int, str] = PLAIN,
) -> str:
    """The text of nginx.conf.

    Args:
        load_module: nginx's stream part is a module of its own, as in Debian's package.
        as_client: ports that take a PROXY line, and whom they lead to.
        plain: those that do not.
    """
    text = f"load_module {_STREAM_MODULE};\n" if load_module else ""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    text += _HEAD.format(files=_FILES if most == resource.RLIM_INFINITY else min(_FILES, most))
    text += "".join(_CLIENT.format(port=port, upstream=to) for port, to in as_client.items())
    text += "".join(_SERVER.format(port=port, upstream=to) for port, to in plain.items())
    return text + "}\n"


def make_local(networks: Iterable[str]) -> None:
    """Make all addresses of some networks this machine's own (`ip route add local … dev lo`).

    Raises:
        OSError: the kernel refuses; it takes the capability NET_ADMIN.
        ValueError: a network is none of IPv4.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        for number, text in enumerate(networks, 1):
            network = ipaddress.IPv4Network(text)
            kernel.send(route_message(network, socket.if_nametoindex("lo"), number))
            answer = kernel.recv(4096)
            (kind,) = struct.unpack_from("=H", answer, 4)
            (code,) = struct.unpack_from("=i", answer, 16)
            if kind != _NLMSG_ERROR or code != 0:
                raise OSError(-code, f"no local route to {network}: {os.strerror(-code)}")


def route_message(network: ipaddress.IPv4Network, interface: int, number: int) -> bytes:
    """The netlink message that adds a local route."""
    route = struct.pack(
        "=BBBBBBBBI",
        socket.AF_INET,
        network.prefixlen,
        0,
        0,
        _RT_TABLE_LOCAL,
        _RTPROT_BOOT,
        _RT_SCOPE_HOST,
        _RTN_LOCAL,
        0,
    )
    attributes = struct.pack("=HH4s", 8, _RTA_DST, network.network_address.packed)
    attributes += struct.pack("=HHI", 8, _RTA_OIF, interface)
    flags = _NLM_F_REQUEST | _NLM_F_ACK | _NLM_F_CREATE | _NLM_F_REPLACE
    length = 16 + len(route) + len(attributes)
    return struct.pack("=IHHII", length, _RTM_NEWROUTE, flags, number, 0) + route + attributes


def main() -> NoReturn:
    """Make CLIENT_NETWORKS (comma-separated) local, give up every right, become nginx.

    PLACES and PLACES_AS_CLIENT lead further, where parts have several members. With the word
    ``check`` only have nginx look at the configuration.
    """
    nginx = ["nginx", "-c", str(_CONFIGURATION), "-p", "/tmp", "-e", "stderr"]
    text = configuration(
        load_module=_STREAM_MODULE.exists(),
        as_client={**AS_CLIENT, **places(os.environ.get("PLACES_AS_CLIENT", ""))},
        plain={**PLAIN, **places(os.environ.get("PLACES", ""))},
    )
    if sys.argv[1:] == ["check"]:
        _CONFIGURATION.write_text(text, encoding="utf-8")
        os.execvp("nginx", [*nginx, "-t", "-q"])
    networks = [part for part in os.environ.get("CLIENT_NETWORKS", "").split(",") if part]
    if not networks:
        sys.exit("CLIENT_NETWORKS is not set, expected networks in CIDR form")
    make_local(networks)
    os.setgroups([])
    os.setgid(_USER)
    os.setuid(_USER)
    _CONFIGURATION.write_text(text, encoding="utf-8")
    os.execvp("nginx", nginx)


if __name__ == "__main__":
    main()
