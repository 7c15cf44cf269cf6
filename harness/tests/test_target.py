"""The target file: every fault told at once, access and absence answered truly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import target
from harness.criterion import Access, Criterion, Effect
from harness.target import TargetError


def _document(**changes: Any) -> dict[str, Any]:
    return {"schema": 1, "http": {"origin": "https://localhost:8443"}, **changes}


def _criterion(**changes: Any) -> Criterion:
    values: dict[str, Any] = {"id": "c", "area": "a", "statement": "It MUST.", "gate": "g"}
    return Criterion(**{**values, **changes})


def test_the_least_file_is_a_target(tmp_path: Path) -> None:
    """Schema and origin are enough; everything else is not granted."""
    path = tmp_path / "target.toml"
    path.write_text('schema = 1\n[http]\norigin = "https://localhost:1"\n')

    loaded = target.load(path)

    assert loaded.http.origin == "https://localhost:1"
    assert set(loaded.missing_access(_criterion(needs=tuple(Access)))) == set(Access)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"schema": 1}, "http"),
        (_document(schema=2), "schema is 2, expected 1"),
        (_document(surprise=1), "surprise"),
        (_document(http={"origin": "http://localhost"}), "expected https://host"),
        (_document(http={"origin": "https://"}), "expected https://host"),
        (_document(http={"origin": "https://a", "plain": "https://a"}), "expected http://host"),
        (_document(http={"origin": "https://a", "websocket": "ws://a"}), "expected wss://host"),
        (_document(http={"origin": "https://a", "ca": "/no/such.pem"}), "no such file"),
        (_document(addresses={"exempt": ["somewhere"]}), "'somewhere' is neither"),
        (_document(addresses={"limited": "1.2.3.4/99"}), "'1.2.3.4/99' is neither"),
        (
            _document(services={"auth": {"url": "http://a", "members": ["http://b"]}}),
            "services.auth.members begins with 'http://b'",
        ),
        (_document(addresses={"relays": {"localhost:1": "nowhere"}}), "'nowhere' is no place"),
        (_document(faults={"auth": {"redis": {"sever": "x"}}}), "unknown field `sever`"),
        (
            _document(faults={"auth": {"redis": {"cut": "x"}}}),
            "faults.auth.redis has cut but no heal, expected the command that ends it",
        ),
        (
            _document(faults={"auth": {"redis": {"slow": "x 20", "heal": "y"}}}),
            "faults.auth.redis.slow is 'x 20', expected {milliseconds} in it",
        ),
        (
            _document(faults={"auth": {"redis": {"lose": "x", "heal": "y"}}}),
            "faults.auth.redis.lose is 'x', expected {percent} in it",
        ),
    ],
)
def test_a_wrong_file_is_told_precisely(document: dict[str, Any], words: str) -> None:
    """Each fault says seen and expected."""
    with pytest.raises(TargetError) as caught:
        target.parse(document)

    assert words in str(caught.value)
    assert caught.value.faults


def test_all_faults_come_at_once() -> None:
    """Two faults make two lines."""
    document = _document(schema=3, http={"origin": "http://localhost"})

    with pytest.raises(TargetError) as caught:
        target.parse(document)

    assert len(caught.value.faults) == 2


@pytest.mark.parametrize(("content", "words"), [(None, "cannot be read"), ("= 1", "not TOML")])
def test_an_unreadable_file_is_told(tmp_path: Path, content: str | None, words: str) -> None:
    """Missing and broken files are errors that name the path."""
    path = tmp_path / "target.toml"
    if content is not None:
        path.write_text(content)

    with pytest.raises(TargetError, match=words):
        target.load(path)


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://localhost:1", True),
        ("https://app.localhost", True),
        ("https://127.0.0.9", True),
        ("https://[::1]:1", True),
        ("https://10.0.0.1", False),
        ("https://shop.example", False),
        ("https://localhost.example", False),
    ],
)
def test_loopback_is_recognised(origin: str, expected: bool) -> None:
    """Only addresses that cannot leave the machine are loopback."""
    assert target.parse(_document(http={"origin": origin})).on_loopback() is expected


def test_files_that_are_named_must_be_there() -> None:
    """CA and API description are looked for before anything is contacted."""
    http = {"origin": "https://shop.example", "ca": "/no/ca.pem", "openapi": "/no/openapi.json"}
    with pytest.raises(target.TargetError) as error:
        target.parse(_document(http=http))

    assert [fault.split(" ")[0] for fault in error.value.faults] == ["http.ca", "http.openapi"]


def test_effects_beyond_reads_need_allow_off_loopback() -> None:
    """A remote target is only read unless it allows more (rule 8)."""
    rough = _criterion(effects=(Effect.READS, Effect.WRITES, Effect.DISRUPTS))
    local = target.parse(_document())
    remote = target.parse(_document(http={"origin": "https://shop.example"}, allow=["writes"]))

    assert local.forbidden_effects(rough) == ()
    assert remote.forbidden_effects(rough) == (Effect.DISRUPTS,)


def test_a_service_has_one_member_unless_it_names_more() -> None:
    """The first is the one that its url names."""
    loaded = target.parse(
        _document(
            services={
                "auth": {"url": "http://a:1"},
                "admin": {"url": "http://a:2", "members": ["http://a:2", "http://a:3"]},
            }
        )
    )

    assert loaded.members_of("auth") == ("http://a:1",)
    assert loaded.members_of("admin") == ("http://a:2", "http://a:3")
    assert loaded.members_of("payments") == ()


def test_absence_gives_the_reason() -> None:
    """Listed with a reason or false: absent; true or unlisted: present."""
    parts = {"a": True, "b": "not built yet", "c": False}
    loaded = target.parse(_document(parts=parts))

    assert loaded.absence("a") is None
    assert loaded.absence("b") == "not built yet"
    assert loaded.absence("c") == "declared absent"
    assert loaded.absence("unlisted") is None


def test_granted_access_is_not_missing() -> None:
    """Everything granted: nothing is missing, and control commands are found."""
    loaded = target.parse(
        _document(
            addresses={"exempt": ["127.0.0.2"], "limited": "127.0.3.0/24"},
            services={"auth": {"url": "http://127.0.0.1:1"}},
            access={
                "amqp": {"url": "u", "management": "m", "user": "a", "password": "p"},
                "redis": {"url": "r"},
                "db": {"auth": {"url": "d"}},
                "keys": {
                    "access": {"kid": "k", "secret": "s"},
                    "refresh": {"kid": "k", "secret": "s"},
                },
                "internal": {"token": "t"},
                "logs": {"folder": "/tmp"},
            },
            commands={"dlq": "dlq"},
            control={"auth": {"stop": "x"}},
        )
    )

    assert loaded.missing_access(_criterion(needs=tuple(Access))) == {}
    auth = loaded.control_of("auth")
    assert auth is not None
    assert auth.stop == "x"
    assert loaded.control_of("edge") is None


def test_a_fault_is_offered_for_one_way_only() -> None:
    """Part, dependency and kind must all be named; what is not has no command."""
    loaded = target.parse(_document(faults={"auth": {"redis": {"cut": "x", "heal": "y"}}}))

    assert loaded.fault_of("auth", "redis", "cut") == "x"
    assert loaded.fault_of("auth", "redis", "heal") == "y"
    assert loaded.fault_of("auth", "redis", "slow") == ""
    assert loaded.fault_of("auth", "rabbitmq", "cut") == ""
    assert loaded.fault_of("gateway", "redis", "cut") == ""
