"""What a profile is, as far as it is built: it belongs to one user and ends with that user."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UserDeleted:
    """A user is gone (R3.27), and so must the profile be (R1.152).

    Attributes:
        user_id: whose profile it was.
    """

    user_id: str
