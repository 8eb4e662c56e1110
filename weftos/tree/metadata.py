"""Metadata of a node: text keys and plain values, each value kept as its one canonical encoding.

Why it is as it is: the hash of a node covers its metadata, so equal values must give equal bytes, and a value without
exact meaning (NaN, a key that is no text) must not get in. Values are kept encoded: then nobody can change a list
inside the tree through a reference that he was given, and hashing needs no encoding.

Guaranteed: integers, floats and lengths take their shortest msgpack form (floats always 64 bit), maps are sorted by the
UTF-8 bytes of their keys; ``decode`` accepts nothing that ``encode`` would not have made. So ``1``, ``1.0`` and
``True`` are three values, and ``0.0`` and ``-0.0`` are two.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

import msgspec

from weftos import limits
from weftos.errors import NodeInvalid

__all__ = ["check_key", "check_size", "decode", "encode", "encode_map", "read_encoded"]

_SCALARS: Final = frozenset((str, int, bytes, bool, type(None)))
_encode: Final = msgspec.msgpack.Encoder(order="deterministic").encode
_decode: Final = msgspec.msgpack.Decoder(Any).decode


def encode(value: Any) -> bytes:
    """Encode one value canonically.

    Args:
        value: ``int`` (64 bit), ``str``, ``bytes``, ``bool``, ``None``, finite ``float``, and lists and maps of these.
            Exactly these types; subclasses are refused. A tuple counts as a list.

    Returns:
        At most ``limits.TREE_METADATA_VALUE_BYTES`` bytes.

    Raises:
        NodeInvalid: it holds something else, is nested too deeply or is too large.
    """
    _check(value, limits.TREE_METADATA_DEPTH)
    try:
        data = _encode(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise NodeInvalid(f"a value of metadata cannot be encoded: {error}") from error
    if len(data) > limits.TREE_METADATA_VALUE_BYTES:
        raise NodeInvalid(
            f"a value of metadata takes {len(data)} bytes, {limits.TREE_METADATA_VALUE_BYTES} are allowed; "
            "keep the content as an artifact and its hash here"
        )
    return data


def decode(data: bytes) -> Any:
    """Return a fresh copy of a value that ``encode`` made."""
    return _decode(data)


def read_encoded(data: bytes) -> bytes:
    """Return bytes from outside if they are the canonical encoding of an acceptable value.

    Raises:
        NodeInvalid: they are not.
    """
    try:
        value = _decode(data)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise NodeInvalid(f"a value of metadata is no msgpack: {error}") from error
    if encode(value) != data:
        raise NodeInvalid("a value of metadata is not in its canonical form")
    return data


def encode_map(metadata: Mapping[str, Any]) -> dict[str, bytes]:
    """Check and encode the metadata of a node.

    Returns:
        The encoded values by key, in the order of the argument.

    Raises:
        NodeInvalid: a key or a value is not acceptable, or there are too many.
    """
    if not isinstance(metadata, Mapping):
        raise NodeInvalid(f"metadata is a map, not {type(metadata).__name__}")
    encoded = {check_key(key): encode(value) for key, value in metadata.items()}
    check_size(encoded)
    return encoded


def check_key(key: Any) -> str:
    """Return a key if it can be one: printable text, not empty, at most ``limits.TREE_METADATA_KEY_BYTES`` bytes.

    Raises:
        NodeInvalid: it cannot.
    """
    if type(key) is not str or not key or not key.isprintable():
        raise NodeInvalid(f"a key of metadata is printable text, not {key!r}")
    if len(key.encode()) > limits.TREE_METADATA_KEY_BYTES:
        raise NodeInvalid(f"a key of metadata has at most {limits.TREE_METADATA_KEY_BYTES} bytes")
    return key


def check_size(encoded: Mapping[str, bytes]) -> None:
    """Refuse metadata that is too much for one node.

    Raises:
        NodeInvalid: there are more than ``limits.TREE_METADATA_KEYS`` keys or ``limits.TREE_METADATA_BYTES`` bytes.
    """
    if len(encoded) > limits.TREE_METADATA_KEYS:
        raise NodeInvalid(f"a node has at most {limits.TREE_METADATA_KEYS} keys of metadata, not {len(encoded)}")
    size = sum(len(key.encode()) + len(data) for key, data in encoded.items())
    if size > limits.TREE_METADATA_BYTES:
        raise NodeInvalid(f"the metadata of a node takes at most {limits.TREE_METADATA_BYTES} bytes, this is {size}")


def _check(value: Any, depth: int) -> None:
    kind = type(value)
    if kind in _SCALARS:
        return
    if kind is float:
        if not isfinite(value):
            raise NodeInvalid(f"{value} has no canonical form; leave the key out or use null")
        return
    if kind is not dict and kind is not list and kind is not tuple:
        raise NodeInvalid(f"metadata holds plain values, not {kind.__name__}")
    if depth < 1:
        raise NodeInvalid(f"a value of metadata is nested at most {limits.TREE_METADATA_DEPTH} deep")
    if kind is dict:
        for key in value:
            if type(key) is not str:
                raise NodeInvalid(f"the keys of a map in metadata are text, not {type(key).__name__}")
        value = value.values()
    for part in value:
        _check(part, depth - 1)
