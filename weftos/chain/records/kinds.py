"""The syntax of kinds, sources and the other names in a record.

Why it is as it is: who may append which kind is policy and belongs to the service. Here only the shape is checked, plus
one rule: a kind outside ``app.`` must be in the table of ``weftos.events``.

Guaranteed: an accepted name holds no space, control character or separator of another field, and keeps its limit.
"""

from __future__ import annotations

import re

from weftos import limits
from weftos.errors import AppendRefused
from weftos.events import APP_PREFIX, KINDS

__all__ = ["check_kind", "check_source", "check_text"]

# fullmatch, because "$" would accept a line feed behind the end.
_KIND = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z0-9][a-z0-9_-]*)*")
_SOURCE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@/#+-]*")


def check_kind(kind: str) -> None:
    """Refuse what is no kind: lower-case words joined by dots, in the table or below ``app.``.

    Raises:
        AppendRefused: it is malformed, too long or unknown.
    """
    if type(kind) is not str or len(kind) > limits.CHAIN_KIND_BYTES or _KIND.fullmatch(kind) is None:
        raise AppendRefused(
            f"a kind is lower-case words joined by dots, at most {limits.CHAIN_KIND_BYTES} bytes, not {_short(kind)}"
        )
    if kind not in KINDS and not kind.startswith(APP_PREFIX):
        raise AppendRefused(f"unknown kind {kind!r}; `weaver chain kinds` lists those outside {APP_PREFIX!r}")


def check_source(source: str) -> None:
    """Refuse what is no source: letters, digits and ``_ . : @ / # + -``, beginning with a letter, digit or ``_``.

    Raises:
        AppendRefused: it is malformed or too long.
    """
    if type(source) is not str or len(source) > limits.CHAIN_SOURCE_BYTES or _SOURCE.fullmatch(source) is None:
        raise AppendRefused(
            f"a source is letters, digits and _.:@/#+-, at most {limits.CHAIN_SOURCE_BYTES} bytes, not {_short(source)}"
        )


def check_text(name: str, text: object, most: int) -> None:
    """Refuse a free text that is not printable UTF-8 within its limit.

    Args:
        name: the field, for the message.
        text: what was given.
        most: its limit in bytes of UTF-8.

    Raises:
        AppendRefused: it is no string, empty, too long or holds characters that cannot be shown.
    """
    if type(text) is not str or not text or not text.isprintable() or len(text.encode(errors="replace")) > most:
        raise AppendRefused(f"{name} is 1 to {most} bytes of printable text, not {_short(text)}")


def _short(value: object) -> str:
    return repr(value[:80] if isinstance(value, str) else value)[:100]
