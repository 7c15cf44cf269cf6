"""The key ring: first start, restarts, rotation, what may be told; everything around it faked."""

from __future__ import annotations

from datetime import timedelta

import pytest

from system.auth.adapters.postgres_keys import Vault
from system.auth.domain.keys import KeyKind, KeyStatus, new_kid
from system.auth.tests.house import CALLER, House
from system.platform.http.errors import ApiError
from system.platform.security.tokens import KeyRing, TokenType, verify

ACTOR = "11111111-1111-4111-8111-111111111111"
BOTH = tuple(KeyKind)


@pytest.fixture
def house() -> House:
    return House()


async def rotate(house: House, *kinds: KeyKind, days: int | None = None) -> dict[KeyKind, str]:
    return await house.keeper.rotate(
        kinds or BOTH, reason="test", expires_in_days=days, actor_id=ACTOR
    )


def active(ring: KeyRing) -> list[str]:
    return [ring.active(kind).kid for kind in TokenType]


async def test_environment_enters_the_ring_at_the_first_start_only(house: House) -> None:
    """A later start with other keys in its environment goes on with the stored ones (R1.30)."""
    await house.keeper.fresh.look()
    assert active(house.ring) == ["a", "r"]
    again = KeyRing({}, clock=lambda: house.clock().timestamp())

    await house.new_keeper(again, secret=b"b").fresh.look()

    for kind in TokenType:
        assert again.keys(kind) == house.ring.keys(kind)
        assert again.keys(kind)[0].secret.startswith(b"aaaa")


async def test_rotation_signs_with_the_new_keys_and_accepts_the_old(house: House) -> None:
    """Tokens of before go on until the last has expired, and no longer."""
    before = await house.register()
    kids = await rotate(house)

    assert active(house.ring) == [kids[KeyKind.JWT], kids[KeyKind.REFRESH]]
    assert await house.state(before) == "open"
    after = await house.login()
    assert await house.state(after) == "open"
    pair = await house.service.refresh(before.tokens.refresh_token, CALLER)
    house.clock.pass_seconds(15 * 60 - 1)
    await house.keeper.fresh.look()
    assert verify(before.tokens.access_token, house.ring).user_id == before.user.id
    house.clock.pass_seconds(7 * 86400 + 120)
    await house.keeper.fresh.look()
    assert [key.kid for key in house.ring.keys(TokenType.REFRESH)] == [kids[KeyKind.REFRESH]]
    for token, code in (
        (pair.refresh_token, "TOKEN_EXPIRED"),
        (before.tokens.refresh_token, "TOKEN_INVALID"),
    ):
        with pytest.raises(ApiError, match=code):
            verify(token, house.ring, TokenType.REFRESH)


async def test_new_key_verifies_everywhere_before_it_signs(house: House) -> None:
    """When the others have had their time to read it, it is stored and does not sign yet."""
    await house.keeper.fresh.look()
    other = KeyRing({}, clock=lambda: house.clock().timestamp())
    keeper = house.new_keeper(house.ring)
    seen: list[tuple[int, list[str]]] = []

    async def spread() -> None:
        await house.new_keeper(other).fresh.look()
        seen.append((len(other.keys(TokenType.ACCESS)), active(other)))

    keeper._spread = spread
    kids = await keeper.rotate(BOTH, reason="test", expires_in_days=None, actor_id=ACTOR)

    assert seen == [(2, ["a", "r"])]
    signed = await house.register()
    assert verify(signed.tokens.access_token, other).user_id == signed.user.id
    assert active(house.ring)[0] == kids[KeyKind.JWT]


async def test_one_kind_is_rotated_alone(house: House) -> None:
    """The other kind keeps its key; one event and one line of history, with both kids."""
    kids = await rotate(house, KeyKind.REFRESH)

    assert active(house.ring) == ["a", kids[KeyKind.REFRESH]]
    (fact,) = [fact for fact in house.store.tables.facts if fact.type == "secrets.rotated"]
    assert fact.actor_id == ACTOR
    assert fact.data == {
        "kind": "refresh",
        "oldKid": "r",
        "newKid": kids[KeyKind.REFRESH],
        "reason": "test",
        "rotatedAt": "2026-01-17T10:00:00.000Z",
    }
    (rotation,) = await house.keeper.rotations()
    assert (rotation.old_kid, rotation.triggered_by) == ("r", ACTOR)


async def test_expiring_keys_are_those_that_sign(house: House) -> None:
    """Within 30 days; the retired key, which ends sooner, needs no rotation; none is cut off."""
    await rotate(house, days=31)
    assert await house.keeper.expiring() == []
    house.clock.pass_seconds(86400)
    assert [days for _, days in await house.keeper.expiring()] == [30, 30]

    house.clock.pass_seconds(40 * 86400)

    assert [days for _, days in await house.keeper.expiring()] == [0, 0]
    await house.keeper.fresh.look()
    assert await house.state(await house.register()) == "open"


def test_kid_has_its_form(house: House) -> None:
    """`key-YYYY-MM-DD-<8 hex>` (R1.23)."""
    assert new_kid(house.clock(), "0123456789abcdef") == "key-2026-01-17-01234567"


def test_key_verifies_until_its_end(house: House) -> None:
    """The end itself is too late; a key that may not verify never does."""
    now = house.clock()
    status = KeyStatus(KeyKind.JWT, "k", now, now + timedelta(seconds=1), False, True)
    assert status.verifies(now)
    assert not status.verifies(now + timedelta(seconds=1))
    assert not KeyStatus(KeyKind.JWT, "k", now, None, False, False).verifies(now)


def test_vault_opens_only_what_it_sealed() -> None:
    """A sealed secret shows nothing of itself; another key does not open it."""
    sealed = Vault(b"k" * 32).seal(b"the secret")
    assert "secret" not in sealed
    assert Vault(b"k" * 32).open(sealed) == b"the secret"
    with pytest.raises(ValueError, match="SECRETS_ENCRYPTION_KEY"):
        Vault(b"x" * 32).open(sealed)
