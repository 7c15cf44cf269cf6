"""Builds the small front page into a folder: hashed names, remotes, then compressed copies."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import shutil
import struct
import zlib
from pathlib import Path
from typing import Final

REMOTES: Final = ("auth", "payments", "admin", "profile")
_SOURCE: Final = Path(__file__).with_name("front_page")
_COMPRESSIBLE: Final = frozenset({".html", ".css", ".js", ".mjs", ".json", ".webmanifest", ".svg"})
_LEAST_COMPRESSED: Final = 1024  # R5.27, bytes
_HASH_DIGITS: Final = 16
_MARK_SIDE: Final = 64


def build(folder: Path) -> None:
    """Put the whole page into a folder that holds nothing else.

    Assets get the hash of their content into their names (R5.28), and every file refers to them
    by these; ``.gz`` copies are written last, of the final content (R5.27).

    Args:
        folder: made anew; what was in it is gone. The front page is complete at once or not there.
    """
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    (fresh / "assets").mkdir(parents=True)
    renamed = _write_assets(fresh)
    pages = ("index.html", "offline.html", "site.webmanifest")
    for name in pages:
        _write(fresh / name, _pointing(_text(name), renamed))
    worker = _pointing(_text("sw.js"), renamed)
    digest = _digest("".join(_pointing(_text(name), renamed) for name in pages) + worker)
    _write(fresh / "sw.js", worker.replace("{{build}}", digest))
    entry = _text("mfe/remoteEntry.js")
    _write(fresh / "remoteEntry.js", entry.replace("{{remote}}", "shell"))
    for remote in REMOTES:
        _write(
            fresh / "mfe" / remote / "remoteEntry.js",
            entry.replace("{{remote}}", remote),
        )
    _compress(fresh)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.replace(folder)


def mark() -> bytes:
    """The page's picture: a PNG of two crossing bands, drawn here so that no binary is kept."""
    side = _MARK_SIDE
    rows = bytearray()
    for y in range(side):
        rows.append(0)  # no filter
        for x in range(side):
            inside = (x - side / 2) ** 2 + (y - side / 2) ** 2 < (side / 2) ** 2
            band = abs(x - y) < side // 8 or abs(x + y - side) < side // 8
            rows += bytes((255, 255, 255, 255) if band and inside else (20, 90, 160, 255 * inside))
    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", header),
            _chunk(b"IDAT", zlib.compress(bytes(rows), 9)),
            _chunk(b"IEND", b""),
        )
    )


def _write_assets(folder: Path) -> dict[str, str]:
    """Write every asset under its hashed name; what it was called, and what it is called."""
    contents: dict[str, bytes] = {"assets/mark.png": mark()}
    for path in sorted((_SOURCE / "assets").iterdir()):
        contents[f"assets/{path.name}"] = path.read_bytes()
    renamed = {}
    for name, content in contents.items():
        stem, _, extension = name.rpartition(".")
        digest = hashlib.sha256(content).hexdigest()[:_HASH_DIGITS]
        renamed[name] = f"{stem}.{digest}.{extension}"
        (folder / renamed[name]).write_bytes(content)
    return renamed


def _compress(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.suffix in _COMPRESSIBLE and path.stat().st_size >= _LEAST_COMPRESSED:
            packed = gzip.compress(path.read_bytes(), 9, mtime=0)
            path.with_name(path.name + ".gz").write_bytes(packed)


def _pointing(text: str, renamed: dict[str, str]) -> str:
    for name, now in renamed.items():
        text = text.replace(f"/{name}", f"/{now}")
    return text


def _text(name: str) -> str:
    return (_SOURCE / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def main() -> None:
    """Build the page from the command line."""
    parser = argparse.ArgumentParser(prog="python -m system.edge.page", description=__doc__)
    parser.add_argument("folder", type=Path)
    build(parser.parse_args().folder)


if __name__ == "__main__":
    main()
