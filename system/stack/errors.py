"""What can go wrong with a stack.

StackError
├── StackNotThere    the command needs a stack that was started
├── StackBusy        another command works on it
├── UnsafeFolder     its folder's place is taken by something that is not ours
├── PortsTaken       ports that were asked for are in use
├── NotInstalled     a program is missing on this machine
├── UnknownPart      no part has that name
└── PartFailed       a part ended or did not get ready (system.stack.acts)
"""

from __future__ import annotations


class StackError(RuntimeError):
    """The platform could not be started, ended or acted on; says what to do next."""


class StackNotThere(StackError):
    """The command needs a stack that was started."""


class StackBusy(StackError):
    """Another command holds the stack or the part."""


class UnsafeFolder(StackError):
    """The state folder's place is taken by something that is not ours."""


class PortsTaken(StackError):
    """Ports that were asked for are in use."""


class NotInstalled(StackError):
    """A program is missing on this machine."""


class UnknownPart(StackError):
    """No part has that name."""
