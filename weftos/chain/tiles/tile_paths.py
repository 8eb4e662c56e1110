"""Where the tiles of a log lie, and how a bundle of entries is written. Pure.

A tile holds 256 hashes of one level of the tree, or fewer at its right edge; a bundle holds the entries of as many
leaves. Tile level ``L`` holds the roots of complete subtrees of 256 to the power of ``L`` leaves. Numbers are written
in groups of three digits, all but the last with an ``x`` in front, so that no folder has more than a thousand names.

Source: C2SP, tlog-tiles.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import Final

from weftos.errors import ChainCorrupted

__all__ = [
    "TILE_WIDTH",
    "bundle_entry",
    "decode_bundle",
    "edge_paths",
    "encode_bundle",
    "entries_path",
    "parse_tile_path",
    "tile_path",
]

#: Hashes in a full tile, entries in a full bundle.
TILE_WIDTH: Final = 256
_PATH: Final = re.compile(r"tile/(entries|[0-9]|[1-5][0-9]|6[0-3])/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")
_LENGTH: Final = struct.Struct(">H")


def _number(index: int) -> str:
    groups = [f"{index % 1000:03d}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03d}")
    return "/".join(reversed(groups))


def tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    """Return the path of a tile relative to the log's folder.

    Args:
        level: of the tile, 0 to 63.
        index: which tile of the level.
        width: hashes in it, 1 to 256.
    """
    assert 0 <= level < 64, "a level of the format"
    assert index >= 0, "tiles are counted from 0"
    assert 1 <= width <= TILE_WIDTH, "a width of the format"
    return f"tile/{level}/{_number(index)}" + ("" if width == TILE_WIDTH else f".p/{width}")


def entries_path(index: int, width: int = TILE_WIDTH) -> str:
    """Return the path of a bundle of entries; arguments as in ``tile_path``."""
    assert index >= 0, "bundles are counted from 0"
    assert 1 <= width <= TILE_WIDTH, "a width of the format"
    return f"tile/entries/{_number(index)}" + ("" if width == TILE_WIDTH else f".p/{width}")


def edge_paths(size: int) -> list[str]:
    """Return the paths of the partial tiles of a tree of ``size`` leaves, lowest level first, and of its bundle."""
    paths = []
    level, count = 0, size
    while count:
        index, width = divmod(count, TILE_WIDTH)
        if width:
            paths.append(tile_path(level, index, width))
        level, count = level + 1, index
    index, width = divmod(size, TILE_WIDTH)
    return [*paths, entries_path(index, width)] if width else paths


def parse_tile_path(path: str) -> tuple[int | None, int, int]:
    """Return level (``None`` for a bundle of entries), index and width of a path.

    Raises:
        ChainCorrupted: it is no path of a tile in its only form.
    """
    match = _PATH.fullmatch(path)
    if match is not None:
        level = None if match[1] == "entries" else int(match[1])
        index = int(match[2].replace("x", "").replace("/", ""))
        width = int(match[3] or TILE_WIDTH)
        if width <= TILE_WIDTH and path == (
            entries_path(index, width) if level is None else tile_path(level, index, width)
        ):
            return level, index, width
    raise ChainCorrupted(f"{path!r} is no path of a tile")


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Return entries as a bundle: each with its length, 16 bits big-endian, in front of it."""
    pack = _LENGTH.pack
    return b"".join([part for entry in entries for part in (pack(len(entry)), entry)])


def decode_bundle(data: bytes, count: int) -> list[bytes]:
    """Return the entries of a bundle.

    Args:
        data: the bundle.
        count: entries that must be in it.

    Raises:
        ChainCorrupted: there are fewer or more, or the last one is cut off.
    """
    entries: list[bytes] = []
    at = 0
    while at < len(data) and len(entries) < count:
        if at + 2 > len(data):
            break
        stop = at + 2 + int(_LENGTH.unpack_from(data, at)[0])
        if stop > len(data):
            break
        entries.append(data[at + 2 : stop])
        at = stop
    if len(entries) != count or at != len(data):
        raise ChainCorrupted(f"a bundle of {count} entries has {len(entries)} whole ones in {len(data)} bytes")
    return entries


def bundle_entry(data: bytes, index: int) -> bytes:
    """Return one entry of a bundle without taking the others out.

    Args:
        data: the bundle.
        index: of the entry in it.

    Raises:
        ChainCorrupted: the bundle ends before it, or in it.
    """
    at, end = 0, len(data)
    for _ in range(index):
        at += 2 + (data[at] << 8 | data[at + 1]) if at + 2 <= end else end
    stop = at + 2 + (data[at] << 8 | data[at + 1]) if at + 2 <= end else end + 1
    if stop > end:
        raise ChainCorrupted(f"a bundle of {end} bytes has no entry {index}")
    return data[at + 2 : stop]
