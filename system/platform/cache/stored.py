"""How an entry lies in Redis: the generation it was loaded in, its note, its body."""

from __future__ import annotations

import random
from dataclasses import dataclass

from system.platform.cache.answers import Answer, Loaded, Outcome
from system.platform.cache.scripts import EPOCH_LENGTH


@dataclass(frozen=True, slots=True)
class Found:
    """What a look-up gave: the present generation, and the entry if there is one."""

    generation: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Landed:
    """A finished load: its value, the generation seen before it, and whether it was stored.

    `stored` is None if Redis failed meanwhile.
    """

    loaded: Loaded
    generation: bytes
    stored: bool | None

    def serves(self, generation: bytes) -> bool:
        """Whether somebody who came at `generation` may have the value."""
        return self.stored is True or covers(self.generation, generation)


def fresh_epoch() -> str:
    """Draw an epoch that voids every entry of another."""
    # Unique, but no secret: nobody is kept out by it.
    return f"{random.getrandbits(4 * EPOCH_LENGTH):0{EPOCH_LENGTH}x}"


def covers(loaded_at: bytes, came_at: bytes) -> bool:
    """Whether a load that saw one generation before it began includes all removals of another."""
    loaded_epoch, _, loaded_count = loaded_at.partition(b".")
    came_epoch, _, came_count = came_at.partition(b".")
    return loaded_epoch == came_epoch and int(loaded_count) >= int(came_count)


def pack(generation: bytes, loaded: Loaded) -> bytes:
    """Write an entry."""
    return b"".join(
        (generation[:EPOCH_LENGTH], len(loaded.note).to_bytes(2), loaded.note, loaded.body)
    )


def unpack(found: Found) -> Answer | None:
    """Read an entry; None if there is none of the present epoch."""
    value = found.value
    if value is None or value[:EPOCH_LENGTH] != found.generation[:EPOCH_LENGTH]:
        return None
    start = EPOCH_LENGTH + 2
    body = start + int.from_bytes(value[EPOCH_LENGTH:start])
    return Answer(value[body:], value[start:body], Outcome.HIT)
