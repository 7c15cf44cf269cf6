"""Disturbs all TCP traffic with one port of other machines; runs by itself in a helper container.

``python -c <this text> PORT cut | lose PERCENT | slow MILLISECONDS | heal``, in the network of the
part that is disturbed, with the right NET_ADMIN. The packet filter is shown every packet from and
to that port, also of connections that exist already. It drops each, or some by lot, or asks this
process (NFQUEUE), which lets it go on when it has waited long enough. Says "in force" when it is;
only `slow` has to go on from there. What is in force is replaced; `heal` leaves nothing.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator

# What comes and what goes, as seen from the part.
_SIDES = ("INPUT", "--sport"), ("OUTPUT", "--dport")
_MOST_WAITING = 65536  # packets; the kernel drops what does not fit
_BUFFER = 4 * 1024 * 1024

# <linux/netlink.h>, <linux/netfilter/nfnetlink.h>, <linux/netfilter/nfnetlink_queue.h>
_NETLINK_NETFILTER, _SOL_NETLINK, _NO_ENOBUFS = 12, 270, 5
_NLM_F_REQUEST, _NLM_F_ACK, _NLMSG_ERROR = 0x1, 0x4, 2
_QUEUE = 3 << 8  # NFNL_SUBSYS_QUEUE
_PACKET, _VERDICT, _CONFIG = _QUEUE | 0, _QUEUE | 1, _QUEUE | 2
_CFG_CMD, _CFG_PARAMS, _CFG_MAXLEN = 1, 2, 3
_PACKET_HEADER, _VERDICT_HEADER = 1, 2
_BIND, _COPY_META, _ACCEPT = 1, 1, 1


def disturb(port: int, rule: list[str]) -> None:
    """Have the packet filter apply a rule to every packet from and to a port."""
    chain = f"disturbed-{port}"
    table = f"*filter\n:{chain} - [0:0]\n-A {chain} {' '.join(rule)}\nCOMMIT\n"
    subprocess.run(
        ["iptables-restore", "--noflush", "--wait"], input=table, text=True, check=True
    )  # at one stroke, whatever the chain held before
    for way in _ways(port, chain):
        if not _iptables("-C", *way):
            _iptables("-I", *way, check=True)


def heal(port: int) -> None:
    """Leave nothing of `disturb`."""
    chain = f"disturbed-{port}"
    for way in _ways(port, chain):
        while _iptables("-D", *way):
            pass
    if _iptables("-F", chain):
        _iptables("-X", chain, check=True)


def _ways(port: int, chain: str) -> Iterator[tuple[str, ...]]:
    for hook, side in _SIDES:
        yield (hook, "-p", "tcp", side, str(port), "-j", chain)


def _iptables(*arguments: str, check: bool = False) -> bool:
    """Whether it did it; silent about what need not succeed."""
    errors = None if check else subprocess.DEVNULL
    return not subprocess.run(
        ["iptables", "--wait", *arguments], check=check, stderr=errors
    ).returncode


class Queue:
    """The packets that the packet filter asks about, which wait here in their order.

    Args:
        number: of the queue, as in the rule.
        seconds: each one waits.

    Raises:
        OSError: the kernel refuses; somebody else has the queue, or the right is missing.
    """

    def __init__(self, number: int, seconds: float) -> None:
        self._number = number
        self._seconds = seconds
        self._waiting: deque[tuple[float, int]] = deque()
        self._kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._kernel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._kernel.setsockopt(_SOL_NETLINK, _NO_ENOBUFS, 1)  # a burst too large loses packets
        self._configure(_CFG_CMD, struct.pack(">BBH", _BIND, 0, socket.AF_INET))
        self._configure(_CFG_PARAMS, struct.pack(">IB", 0, _COPY_META))
        self._configure(_CFG_MAXLEN, struct.pack(">I", _MOST_WAITING))

    def serve(self) -> None:
        """Let each packet go on when its time has come, for ever."""
        while True:
            due = self._waiting[0][0] - time.monotonic() if self._waiting else None
            if due is None or due > 0:
                readable, _, _ = select.select([self._kernel], [], [], due)
                if readable:
                    came = time.monotonic()
                    for packet in packets(self._kernel.recv(_BUFFER)):
                        self._waiting.append((came + self._seconds, packet))
                continue
            _, packet = self._waiting.popleft()
            verdict = struct.pack(">II", _ACCEPT, packet)
            self._kernel.send(self._message(_VERDICT, _VERDICT_HEADER, verdict, 0))

    def _configure(self, attribute: int, value: bytes) -> None:
        self._kernel.send(self._message(_CONFIG, attribute, value, _NLM_F_ACK))
        answer = self._kernel.recv(4096)
        (kind,) = struct.unpack_from("=H", answer, 4)
        (code,) = struct.unpack_from("=i", answer, 16)
        if kind != _NLMSG_ERROR or code != 0:
            raise OSError(-code, f"no packet queue {self._number}: {os.strerror(-code)}")

    def _message(self, kind: int, attribute: int, value: bytes, flags: int) -> bytes:
        body = struct.pack("=BBH", socket.AF_UNSPEC, 0, socket.htons(self._number))
        body += struct.pack("=HH", 4 + len(value), attribute) + value
        body += bytes(-len(body) % 4)
        return struct.pack("=IHHII", 16 + len(body), kind, _NLM_F_REQUEST | flags, 0, 0) + body


def packets(data: bytes) -> Iterator[int]:
    """The numbers of the packets that messages of the kernel ask about."""
    message = 0
    while message + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, message)
        attribute, end = message + 20, message + length
        while kind == _PACKET and attribute + 4 <= end:
            size, name = struct.unpack_from("=HH", data, attribute)
            if name == _PACKET_HEADER:
                (number,) = struct.unpack_from(">I", data, attribute + 4)
                yield number
                break
            attribute += size + -size % 4
        message += length + -length % 4


def main(arguments: list[str]) -> None:
    """Do what the command line says."""
    port, act, *amount = arguments
    queue = None
    if act == "heal":
        heal(int(port))
    elif act == "cut":
        disturb(int(port), ["-j", "DROP"])
    elif act == "lose":
        share = f"{float(amount[0]) / 100:.6f}"
        lot = ["-m", "statistic", "--mode", "random", "--probability", share]
        disturb(int(port), [*lot, "-j", "DROP"])
    elif act == "slow":
        queue = Queue(int(port), float(amount[0]) / 1000)
        # Bypassed when nobody listens: this process's end is the fault's end.
        disturb(int(port), ["-j", "NFQUEUE", "--queue-num", port, "--queue-bypass"])
    else:
        raise SystemExit(f"seen {act!r}, expected cut, lose, slow or heal")
    print("in force", flush=True)
    if queue is not None:
        queue.serve()


if __name__ == "__main__":
    main(sys.argv[1:])
