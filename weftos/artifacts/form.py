"""What an artifact is to others (hash, size, type), and the header in front of it in its file.

Why it is as it is: type and time stand in the file itself and not beside it, so there is nothing that can go out of
step: one rename brings content, type and time, and one removal takes them. The header has a fixed length, so the
content begins at the same place in every file, and a checksum of its own, because the artifact's hash covers the
content alone: equal content must have one name, whatever it was called.

Guaranteed: a header that decodes is one that was written. Byte for byte: docs/formats/artifacts.md.
"""

from __future__ import annotations

import re
import struct
from typing import Final, TypeGuard

import msgspec
from blake3 import blake3

from weftos import limits
from weftos.errors import InvalidRequest

__all__ = [
    "HEADER_BYTES",
    "ArtifactInfo",
    "ArtifactRef",
    "check_content_type",
    "check_hash",
    "decode_header",
    "ref_from",
]

#: Bytes in front of the content.
HEADER_BYTES: Final = 256
_MAGIC: Final = b"exo/artifact/v1\n"
_FIELDS: Final = struct.Struct("<16sQH198s")  # magic, time, length of the type, the type filled up with zeros
_HASH = re.compile(r"[0-9a-f]{64}")
_WORD: Final = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*"
_TYPE = re.compile(rf'{_WORD}/{_WORD}(?:; ?{_WORD}=(?:{_WORD}|"[ !#-\[\]-~]*"))*')


class ArtifactRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names an artifact; what a record in the log or a message holds in its place.

    Attributes:
        hash: BLAKE3 of the content, 64 lower-case hex digits.
        size: bytes of the content.
        content_type: what this reference takes it for, such as ``application/json``.
    """

    hash: str
    size: int
    content_type: str


class ArtifactInfo(msgspec.Struct, frozen=True):
    """What the store says about an artifact without reading its content.

    Attributes:
        hash: BLAKE3 of the content, 64 lower-case hex digits.
        size: bytes of the content.
        content_type: given with the first put; ``None`` if the file's header is damaged.
        stored_ns: when it was first put, nanoseconds since 1970 UTC; 0 if the file's header is damaged.
    """

    hash: str
    size: int
    content_type: str | None
    stored_ns: int


def check_hash(text: str) -> str:
    """Return ``text`` if it can be the name of an artifact, and so of a file: 64 lower-case hex digits.

    Raises:
        InvalidRequest: it is anything else.
    """
    if not is_hash(text):
        raise InvalidRequest(f"an artifact is named by 64 lower-case hex digits, not {text!r:.100}")
    return text


def is_hash(text: object) -> TypeGuard[str]:
    """Tell whether this can be the name of an artifact."""
    return type(text) is str and _HASH.fullmatch(text) is not None


def check_content_type(text: str) -> None:
    """Refuse what is no content type (RFC 6838, with parameters).

    Raises:
        InvalidRequest: it is malformed or longer than ``limits.ARTIFACT_TYPE_BYTES``.
    """
    if type(text) is not str or len(text) > limits.ARTIFACT_TYPE_BYTES or _TYPE.fullmatch(text) is None:
        raise InvalidRequest(
            f"a content type is like text/plain, at most {limits.ARTIFACT_TYPE_BYTES} characters, not {text!r:.100}"
        )


def ref_from(value: object) -> ArtifactRef:
    """Read a reference as it stands in a payload: a mapping of ``hash``, ``size`` and ``content_type``, nothing else.

    Raises:
        InvalidRequest: it is anything else.
    """
    try:
        ref = msgspec.convert(value, ArtifactRef)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InvalidRequest(f"this is no reference to an artifact: {error}") from error
    check_hash(ref.hash)
    check_content_type(ref.content_type)
    if ref.size < 0:
        raise InvalidRequest(f"an artifact has no {ref.size} bytes")
    return ref


def encode_header(content_type: str, stored_ns: int) -> bytes:
    """Return the bytes in front of the content.

    Args:
        content_type: see ``check_content_type``.
        stored_ns: time of the put, nanoseconds since 1970 UTC.
    """
    name = content_type.encode("ascii")
    fields = _FIELDS.pack(_MAGIC, stored_ns, len(name), name)
    return fields + blake3(fields).digest()


def decode_header(data: bytes) -> tuple[str, int] | None:
    """Return type and time from a file's first ``HEADER_BYTES``, or ``None`` if they are no undamaged header."""
    fields = data[: _FIELDS.size]
    if len(data) != HEADER_BYTES or blake3(fields).digest() != data[_FIELDS.size :]:
        return None
    magic, stored_ns, length, name = _FIELDS.unpack(fields)
    if magic != _MAGIC or length > limits.ARTIFACT_TYPE_BYTES or not name[:length].isascii():
        return None
    return name[:length].decode("ascii"), stored_ns
