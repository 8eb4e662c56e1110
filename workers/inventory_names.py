"""Paths as text for people and for JSON, where a name may be any bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["shown", "some_shown"]

#: Names in a list of an answer, and their text in bytes: five such lists fit into an answer of the kernel.
_NAMES_MAX: Final = 10_000
_NAMES_BYTES: Final = 4 * 1024 * 1024


def some_shown(paths: Iterable[bytes]) -> list[str]:
    """The first paths of many, as text for people: as many as fit into an answer."""
    texts: list[str] = []
    room = _NAMES_BYTES
    for path in paths:
        text = shown(path)
        room -= len(text)
        if len(texts) == _NAMES_MAX or room < 0:
            break
        texts.append(text)
    return texts


def shown(path: bytes) -> str:
    """A path for people: broken bytes and control characters escaped, so that a terminal shows them and obeys none."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
