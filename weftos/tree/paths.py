"""Paths of the resource tree: one text for one place, compared segment by segment.

Why it is as it is: authority is given for "this and everything below". If two texts could name one place (``/a//b``,
``/a/./b``, ``/a/b/``), or if "below" were a comparison of texts (``/agents/ab`` begins with ``/agents/a``), that would
be a way around it. So a path has exactly one form, everything else is refused instead of mended, and "below" compares
segments. Letters are ASCII, because look-alikes and normal forms of Unicode would bring the second text back.

Guaranteed: two paths are equal if and only if their texts are; ``str(path)`` parses to the same path; a parsed path can
be a file name on any Linux file system, segment by segment. Not guaranteed: that letters differ by more than case.
"""

from __future__ import annotations

import re
from typing import Final, final

from weftos import limits
from weftos.errors import PathInvalid

__all__ = ["ROOT", "ResourcePath"]

_SEGMENT: Final = re.compile(r"[A-Za-z0-9_.@:+-]+")
_DOTS: Final = frozenset((".", ".."))


@final
class ResourcePath:
    """An absolute path: ``/``, or segments of ``A-Z a-z 0-9 _ . @ : + -`` with a slash before each.

    Immutable and hashable. The order is that of a walk: a node comes before what is below it, and all that before its
    next sibling.

    Args:
        text: at most ``limits.TREE_PATH_BYTES`` bytes, ``limits.TREE_DEPTH`` segments, and
            ``limits.TREE_SEGMENT_BYTES`` bytes per segment; no segment is empty, ``.`` or ``..``.

    Raises:
        PathInvalid: it is no path; the message says why.
    """

    __slots__ = ("_hash", "_segments", "_text")

    def __init__(self, text: str) -> None:
        self._segments = _parse(text)
        self._text = text
        self._hash = hash(text)

    @property
    def segments(self) -> tuple[str, ...]:
        """The segments from the top; none for the root."""
        return self._segments

    @property
    def name(self) -> str:
        """The last segment; ``/`` for the root."""
        return self._segments[-1] if self._segments else "/"

    @property
    def depth(self) -> int:
        """The number of segments; 0 for the root."""
        return len(self._segments)

    @property
    def parent(self) -> ResourcePath | None:
        """The path without its last segment; ``None`` for the root."""
        if not self._segments:
            return None
        return _trusted(self._segments[:-1])

    @property
    def ancestors(self) -> tuple[ResourcePath, ...]:
        """All paths above this one, the nearest first, the root last."""
        return tuple(_trusted(self._segments[:end]) for end in range(len(self._segments) - 1, -1, -1))

    def child(self, name: str) -> ResourcePath:
        """Return the path one segment further down.

        Raises:
            PathInvalid: the name is no segment, or the path would be too long or too deep.
        """
        if "/" in name:
            raise PathInvalid(f"{name!r} is no segment of a path")
        return ResourcePath(f"{self._text}/{name}" if self._segments else f"/{name}")

    def is_within(self, prefix: ResourcePath) -> bool:
        """Tell whether this is ``prefix`` itself or lies below it: ``/agents/ab`` is not within ``/agents/a``."""
        above = prefix._segments
        return self._segments[: len(above)] == above

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"ResourcePath({self._text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ResourcePath) and self._text == other._text

    def __lt__(self, other: ResourcePath) -> bool:
        return self._segments < other._segments

    def __hash__(self) -> int:
        return self._hash


def _parse(text: str) -> tuple[str, ...]:
    if type(text) is not str:
        raise PathInvalid(f"a path is text, not {type(text).__name__}")
    if len(text) > limits.TREE_PATH_BYTES:
        raise PathInvalid(f"a path has at most {limits.TREE_PATH_BYTES} bytes, this one {len(text)} characters")
    if not text.startswith("/"):
        raise PathInvalid(f"the path {text!r} does not begin with a slash")
    if text == "/":
        return ()
    segments = tuple(text[1:].split("/"))
    if len(segments) > limits.TREE_DEPTH:
        raise PathInvalid(f"a path has at most {limits.TREE_DEPTH} segments, {text!r} has {len(segments)}")
    for segment in segments:
        # fullmatch, because "$" would accept a line feed behind the end.
        if _SEGMENT.fullmatch(segment) is None:
            raise PathInvalid(f"the path {text!r} has the segment {segment!r}; allowed are A-Z a-z 0-9 _ . @ : + -")
        if segment in _DOTS:
            raise PathInvalid(f"the path {text!r} has the segment {segment!r}; a path names its place directly")
        if len(segment) > limits.TREE_SEGMENT_BYTES:
            raise PathInvalid(f"a segment has at most {limits.TREE_SEGMENT_BYTES} bytes, one has {len(segment)}")
    return segments


def _trusted(segments: tuple[str, ...]) -> ResourcePath:
    """Make a path from segments of one that was parsed; a prefix of a path is a path."""
    path = object.__new__(ResourcePath)
    text = "/" + "/".join(segments)
    path._segments, path._text, path._hash = segments, text, hash(text)
    return path


#: The path of the topmost node, ``/``.
ROOT: Final = ResourcePath("/")
