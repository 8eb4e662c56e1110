"""The one encoding of a payload: msgpack with sorted keys, and only values that every reader understands alike.

Why it is as it is: the hash covers bytes, so equal content must give equal bytes, and content that has no exact meaning
(NaN, time stamps without zone, keys that are no text) must not get in. The check walks the value before encoding,
because the encoder would accept more than that; a walk over a handful of scalars costs less than decoding again.

Guaranteed: integers, floats and lengths take their shortest form (floats always 64 bit), keys are sorted by their UTF-8
bytes, nothing is encoded that the walk did not allow. Not guaranteed: that bytes found in a file are in this form;
readers take any valid msgpack whose hash is right.
"""

from __future__ import annotations

from math import isfinite
from typing import Any, Final

import msgspec

from weftos import limits
from weftos.errors import AppendRefused

__all__ = ["decode_payload", "encode_payload"]

_SCALARS: Final = frozenset((str, int, bytes, bool, type(None)))
_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_decoder: Final = msgspec.msgpack.Decoder(dict[str, Any])


def encode_payload(payload: dict[str, Any]) -> bytes:
    """Encode a payload canonically.

    Args:
        payload: text keys to ``int`` (64 bit), ``str``, ``bytes``, ``bool``, ``None``, finite ``float``, and lists and
            maps of these. Exactly these types; subclasses are refused.

    Returns:
        At most ``limits.CHAIN_PAYLOAD_BYTES`` bytes.

    Raises:
        AppendRefused: it holds something else, is nested too deeply or is too large.
    """
    if type(payload) is not dict:
        raise AppendRefused(f"a payload is a map, not {type(payload).__name__}")
    _check_map(payload, limits.CHAIN_PAYLOAD_DEPTH)
    try:
        data = _encode(payload)
    except (TypeError, ValueError, OverflowError) as error:
        raise AppendRefused(f"the payload cannot be encoded: {error}") from error
    if len(data) > limits.CHAIN_PAYLOAD_BYTES:
        raise AppendRefused(
            f"the payload takes {len(data)} bytes, {limits.CHAIN_PAYLOAD_BYTES} are allowed; log a hash of it instead"
        )
    return data


def decode_payload(data: bytes) -> dict[str, Any]:
    """Decode a payload.

    Raises:
        msgspec.DecodeError: it is no msgpack map with text keys.
    """
    try:
        return _decoder.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:  # msgspec lets them through
        raise msgspec.DecodeError(f"a text is not UTF-8, or the nesting too deep: {error}") from error


def _check_map(value: dict[Any, Any], depth: int) -> None:
    for key, item in value.items():
        if type(key) is not str:
            raise AppendRefused(f"the keys of a payload are text, not {type(key).__name__}")
        if type(item) not in _SCALARS:
            _check(item, depth)


def _check(item: Any, depth: int) -> None:
    kind = type(item)
    if kind is float:
        if not isfinite(item):
            raise AppendRefused(f"{item} has no canonical form; leave the field out or use null")
        return
    if kind is not dict and kind is not list and kind is not tuple:
        raise AppendRefused(f"a payload holds plain values, not {kind.__name__}")
    if depth <= 1:
        raise AppendRefused(f"a payload is nested at most {limits.CHAIN_PAYLOAD_DEPTH} deep")
    if kind is dict:
        _check_map(item, depth - 1)
        return
    for part in item:
        if type(part) not in _SCALARS:
            _check(part, depth - 1)
