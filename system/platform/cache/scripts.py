"""The three steps Redis takes as one each: look, store unless outdated, remove by tag.

Keys of a service, beside its entries:

    <service>:generation    "<epoch>.<n>": n counts removals; a new epoch voids every entry
    <service>:tag:<tag>     hash: a field for each entry that carries the tag, and field "at":
                            the generation of the tag's last removal
    <service>:done:<id>     a removal that is done once, whoever comes first

An entry begins with the epoch it was stored under.  A loader remembers the generation it saw
before it asked the database; its value is stored only if the epoch is still the same and none of
the value's tags was removed after that generation (R6.7).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

EPOCH_LENGTH: Final = 16
# What the store script answers when somebody flushed the generation away.
NO_GENERATION: Final = b"-"
# From this many fields on, a tag record is now and then cleared of entries that expired.
_CROWDED: Final = 512

# KEYS entry, generation · ARGV fresh epoch → generation, stored value or nil
_LOOK: Final = """
local generation = redis.call('GET', KEYS[2])
if not generation then
  generation = ARGV[1] .. '.0'
  redis.call('SET', KEYS[2], generation)
end
return {generation, redis.call('GET', KEYS[1])}
"""

# KEYS entry, generation, tag... · ARGV generation seen, value, ttl, tag ttl, crowded
# → "" if stored, else the present generation ("-" if there is none)
_STORE: Final = """
local function parts(generation)
  local dot = string.find(generation, '.', 1, true)
  return string.sub(generation, 1, dot - 1), tonumber(string.sub(generation, dot + 1))
end
local generation = redis.call('GET', KEYS[2])
if not generation then return '-' end
local seen_epoch, seen = parts(ARGV[1])
if parts(generation) ~= seen_epoch then return generation end
for i = 3, #KEYS do
  local at = redis.call('HGET', KEYS[i], 'at')
  if at then
    local epoch, n = parts(at)
    if epoch == seen_epoch and n > seen then return generation end
  end
end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
for i = 3, #KEYS do
  redis.call('HSET', KEYS[i], KEYS[1], '')
  redis.call('EXPIRE', KEYS[i], ARGV[4])
  local size = redis.call('HLEN', KEYS[i])
  if size >= tonumber(ARGV[5]) and size % 64 == 0 then
    for _, field in ipairs(redis.call('HKEYS', KEYS[i])) do
      if field ~= 'at' and redis.call('EXISTS', field) == 0 then
        redis.call('HDEL', KEYS[i], field)
      end
    end
  end
end
return ''
"""

# KEYS generation, tag... · ARGV fresh epoch, tag ttl, mark or "" → number of entries removed
_REMOVE: Final = """
if ARGV[3] ~= '' and not redis.call('SET', ARGV[3], '', 'NX', 'EX', ARGV[2]) then return 0 end
local generation = redis.call('GET', KEYS[1])
local epoch, n
if generation then
  local dot = string.find(generation, '.', 1, true)
  epoch, n = string.sub(generation, 1, dot - 1), tonumber(string.sub(generation, dot + 1)) + 1
else
  epoch, n = ARGV[1], 0
end
generation = epoch .. '.' .. string.format('%d', n)
redis.call('SET', KEYS[1], generation)
local removed = 0
for i = 2, #KEYS do
  for _, field in ipairs(redis.call('HKEYS', KEYS[i])) do
    if field ~= 'at' then removed = removed + redis.call('UNLINK', field) end
  end
  redis.call('DEL', KEYS[i])
  redis.call('HSET', KEYS[i], 'at', generation)
  redis.call('EXPIRE', KEYS[i], ARGV[2])
end
return removed
"""


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua text and the digest Redis knows it by."""

    text: str
    digest: str


@dataclass(frozen=True, slots=True)
class Scripts:
    """The scripts of one service.

    Their texts name the service, so their digests are its own.  Redis forgets scripts when it
    restarts; "no such script" therefore tells each service that Redis may have lost writes.
    """

    look: Script
    store: Script
    remove: Script


def scripts_of(service: str) -> Scripts:
    """Make the scripts of a service."""
    return Scripts(*(_script(service, text) for text in (_LOOK, _STORE, _REMOVE)))


def crowded() -> str:
    """Size of a tag record from which expired entries are cleared out, as a script argument."""
    return str(_CROWDED)


def _script(service: str, text: str) -> Script:
    named = f"-- {service}{text}"
    # Redis names scripts by SHA-1; nothing is protected by it.
    return Script(named, hashlib.sha1(named.encode(), usedforsecurity=False).hexdigest())
