"""The WebSocket wire protocol without sockets (RFC 6455, R4.6, R4.27)."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from system.gateway.domain.frames import (
    CloseCode,
    Closed,
    FrameReader,
    Opcode,
    Ping,
    Pong,
    Received,
    Text,
    Violation,
    accept_key,
    encode,
    encode_close,
    unmask,
    usable_key,
)


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    masked: bool = True,
    reserved: int = 0,
    length: int | None = None,
) -> bytes:
    """A client's frame, right or wrong."""
    size = len(payload) if length is None else length
    head = bytes([(0x80 if final else 0) | reserved | opcode])
    bit = 0x80 if masked else 0
    if size < 126:
        head += bytes([bit | size])
    elif size < 65_536:
        head += bytes([bit | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([bit | 127]) + size.to_bytes(8, "big")
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + unmask(payload, mask)


def feed(*frames: bytes) -> list[Received]:
    """What a fresh reader makes of these bytes."""
    return FrameReader().feed(b"".join(frames))


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ([frame(1, b"hi")], [Text("hi")]),
        ([frame(1)], [Text("")]),
        ([frame(1, "ä€𝄞".encode())], [Text("ä€𝄞")]),
        ([frame(1, b"x" * 125)], [Text("x" * 125)]),
        ([frame(1, b"x" * 126)], [Text("x" * 126)]),
        ([frame(1, b"x" * 65_535)], [Text("x" * 65_535)]),
        ([frame(1, b"x" * 65_536)], [Text("x" * 65_536)]),
        ([frame(1, b"a"), frame(1, b"b")], [Text("a"), Text("b")]),
        ([frame(1, b"a", final=False), frame(0, b"b")], [Text("ab")]),
        (
            [frame(1, b"a", final=False), frame(9, b"p"), frame(0, b"b")],
            [Ping(b"p"), Text("ab")],
        ),
        (
            [frame(1, "€".encode()[:1], final=False), frame(0, "€".encode()[1:])],
            [Text("€")],
        ),
        ([frame(9, b"x" * 125)], [Ping(b"x" * 125)]),
        ([frame(10)], [Pong(b"")]),
        ([frame(8)], [Closed(1005)]),
        ([frame(8, b"\x03\xe8bye")], [Closed(1000)]),
        ([frame(8, b"\x0f\xa0")], [Closed(4000)]),
        ([frame(8), frame(1, b"late")], [Closed(1005)]),
    ],
)
def test_good_frames_are_read(sent: list[bytes], received: list[Received]) -> None:
    """All lengths, fragments, control frames between fragments; nothing after a close."""
    assert feed(*sent) == received


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ([frame(2, b"x")], CloseCode.UNSUPPORTED_DATA),
        ([frame(2)], CloseCode.UNSUPPORTED_DATA),
        ([frame(1, b"x" * 65_537)], CloseCode.MESSAGE_TOO_BIG),
        ([frame(1, length=65_537)[:10]], CloseCode.MESSAGE_TOO_BIG),
        ([frame(1, length=2**63)[:10]], CloseCode.MESSAGE_TOO_BIG),
        (
            [frame(1, b"x" * 40_000, final=False), frame(0, b"x" * 40_000)],
            CloseCode.MESSAGE_TOO_BIG,
        ),
        ([frame(1, b"\xff")], CloseCode.INVALID_TEXT),
        ([frame(1, b"\xed\xa0\x80")], CloseCode.INVALID_TEXT),
        ([frame(1, b"x", masked=False)], CloseCode.PROTOCOL_ERROR),
        ([frame(1, b"x", reserved=0x40)], CloseCode.PROTOCOL_ERROR),
        ([frame(1, b"x", reserved=0x10)], CloseCode.PROTOCOL_ERROR),
        ([frame(3)], CloseCode.PROTOCOL_ERROR),
        ([frame(11)], CloseCode.PROTOCOL_ERROR),
        ([frame(0, b"x")], CloseCode.PROTOCOL_ERROR),
        ([frame(1, final=False), frame(1)], CloseCode.PROTOCOL_ERROR),
        ([frame(9, final=False)], CloseCode.PROTOCOL_ERROR),
        ([frame(9, b"x" * 126)], CloseCode.PROTOCOL_ERROR),
        ([frame(8, b"x")], CloseCode.PROTOCOL_ERROR),
        ([frame(8, b"\x03\xed")], CloseCode.PROTOCOL_ERROR),
        ([frame(8, b"\x00\x00")], CloseCode.PROTOCOL_ERROR),
        ([frame(8, b"\x0b\xb7")], CloseCode.PROTOCOL_ERROR),
        ([frame(8, b"\x03\xe8\xff")], CloseCode.INVALID_TEXT),
        (
            [frame(1, final=False)] + [frame(0, final=False)] * 4_096,
            CloseCode.POLICY_VIOLATION,
        ),
    ],
)
def test_bad_frames_end_the_connection(sent: list[bytes], code: CloseCode) -> None:
    """Each with its code, once, and with nothing after it."""
    received = feed(*sent, frame(1, b"after"))
    assert isinstance(received[-1], Violation)
    assert received[-1].code is code
    assert sum(isinstance(item, Violation) for item in received) == 1
    assert Text("after") not in received


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(max_size=300), max_size=6), st.data())
def test_messages_survive_any_slicing(texts: list[str], data: st.DataObject) -> None:
    """However the network cuts the bytes, the messages are the same."""
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    stream = b"".join(frame(1, text.encode()) for text in texts)
    reader = FrameReader()
    received: list[Received] = []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        received += reader.feed(stream[:cut])
        stream = stream[cut:]
    assert received == [Text(text) for text in texts]


def test_after_the_end_everything_is_swallowed() -> None:
    """The reader goes on eating what an attacker still sends, and keeps none of it."""
    reader = FrameReader()
    reader.feed(frame(2))
    assert reader.ended
    assert reader.feed(b"x" * 1_000_000) == []
    assert not reader._buffer


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 70_000])
def test_our_frames_can_be_read(size: int) -> None:
    """Length forms of RFC 6455, 5.2."""
    payload = b"x" * size
    sent = encode(Opcode.TEXT, payload)
    assert sent[0] == 0x81
    assert sent.endswith(payload)
    head = len(sent) - size
    assert head == (2 if size < 126 else 4 if size < 65_536 else 10)


def test_close_frames_carry_code_and_reason() -> None:
    """A reason never makes the frame longer than a control frame may be."""
    assert encode_close(4401, "session revoked") == b"\x88\x11\x11\x31session revoked"
    assert encode_close(1005) == b"\x88\x00"
    assert encode_close(1000, "x" * 500)[1] == 125


def test_the_accept_key_is_that_of_the_standard() -> None:
    """The example of RFC 6455, 1.3."""
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    ("key", "good"),
    [
        ("dGhlIHNhbXBsZSBub25jZQ==", True),
        ("", False),
        ("short", False),
        ("dGhlIHNhbXBsZSBub25j", False),
        ("ä", False),
        ("dGhlIHNhbXBsZSBub25jZQ== x", False),
    ],
)
def test_keys_are_sixteen_bytes(key: str, good: bool) -> None:
    """RFC 6455, 4.1."""
    assert usable_key(key) is good
