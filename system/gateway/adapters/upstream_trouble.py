"""Why a service gave no answer.

UpstreamTrouble
├── Refused     nobody listens at any instance; nothing was sent
├── Broken      the connection ended, or what came was not HTTP
└── Silent      no response head in time (R1.13)
"""

from __future__ import annotations


class UpstreamTrouble(Exception):
    """A service gave no answer."""


class Refused(UpstreamTrouble):
    """No instance accepted a connection."""


class Broken(UpstreamTrouble):
    """The connection broke, or the answer was not HTTP."""


class Silent(UpstreamTrouble):
    """No response head within the time limit."""
