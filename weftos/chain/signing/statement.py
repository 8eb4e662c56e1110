"""The bytes under a seal or a signature: a domain tag and fields, each behind its length.

Why it is as it is: two different lists of fields must never give the same bytes, or a signature of the one could be
shown as a signature of the other. A length in front of every field rules that out whatever the fields hold, and the tag
in front rules it out between two kinds of statement made with one key.

Guaranteed: the mapping from (tag, fields) to bytes is injective. Integers are 64 bit, little-endian, unsigned.
"""

from __future__ import annotations

import struct
from typing import Final

__all__ = ["U64_MAX", "statement"]

#: Largest integer in a statement.
U64_MAX: Final = 2**64 - 1
_LENGTH: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")


def statement(tag: bytes, *fields: bytes | int) -> bytes:
    """Return the bytes of a statement.

    Args:
        tag: names the kind of statement and its version, such as ``exo/seal/v1``.
        fields: ``bytes`` as they are; ``int`` from 0 to ``U64_MAX`` as 8 bytes.

    Raises:
        ValueError: an integer is out of range.
    """
    parts = [_LENGTH.pack(len(tag)), tag]
    for field in fields:
        if isinstance(field, int):
            if not 0 <= field <= U64_MAX:
                raise ValueError(f"{field} is no unsigned number of 64 bits")
            parts += (_LENGTH.pack(_U64.size), _U64.pack(field))
        else:
            parts += (_LENGTH.pack(len(field)), field)
    return b"".join(parts)
