"""The fast way through records: one loop over those that are as they should be.

Why it is as it is: a verifier of millions of records has one question, "is anything wrong here?", and the answer is
almost always no. So the loop only tells how far all is well and gathers what its caller asked for; the record at which
it stops is looked at again by ``Cursor``, which explains. A call saved for each record is a tenth of the time.

Guaranteed: what it passes is exactly what ``Cursor.take`` passes without a finding and ``FrameReader`` yields, payload
present. It may stop early; then the caller goes the long way for one frame.
"""

from __future__ import annotations

from typing import NamedTuple
from zlib import crc32

import msgspec
from blake3 import blake3

from weftos import limits
from weftos.chain.cursor import Cursor
from weftos.chain.frames import BODY, FRAME_OVERHEAD, MAX_BODY, PROLOGUE, RECORD
from weftos.chain.record import LEAF_TAG, RECORD_VERSION, SALT_BYTES, Header, decode_header, encode_header

__all__ = ["Picked", "pass_good_records"]

_RECORD_MARK = bytes((RECORD, 0))


class Picked(NamedTuple):
    """A record that the caller asked to see.

    Attributes:
        header: decoded.
        salted: salt and payload.
        hash: the record's, 32 bytes.
        at: offset of its frame in the data.
    """

    header: Header
    salted: bytes
    hash: bytes
    at: int


def pass_good_records(
    data: bytes,
    at: int,
    cursor: Cursor,
    entries: list[bytes],
    picked: list[Picked],
    *,
    kinds: frozenset[str],
    boot_id: bytes | None = None,
) -> int:
    """Pass records as long as each is whole, canonical and follows the one before.

    Args:
        data: bytes of a segment, with a frame at ``at``.
        at: where to begin.
        cursor: the place in the log; moved on.
        entries: header parts as stored are appended here, one for each record passed.
        picked: records of one of ``kinds``, or of the boot ``boot_id``, are appended here.
        kinds: kinds to pick.
        boot_id: see ``picked``.

    Returns:
        The offset behind the last record passed.
    """
    if cursor.lost or cursor.log_id is None:
        return at
    hasher = blake3()  # one for all: making one takes longer than hashing a record
    reset, update, digest = hasher.reset, hasher.update, hasher.digest
    unpack, body_length, decode, encode, tag = (
        PROLOGUE.unpack_from,
        BODY.unpack_from,
        decode_header,
        encode_header,
        LEAF_TAG,
    )
    log_id, seq, prev_hash, t_ns = cursor.log_id, cursor.seq, cursor.prev_hash, cursor.t_ns
    end, mark, append, longest = (
        len(data) - FRAME_OVERHEAD - BODY.size,
        _RECORD_MARK,
        entries.append,
        limits.CHAIN_HEADER_BYTES,
    )
    while at < end:
        size, crc = unpack(data, at)
        start = at + 8
        stop = start + size
        if size > MAX_BODY or data[at : at + 4] != data[stop : stop + 4]:
            break
        body = data[start:stop]
        if crc32(body, size) != crc or body[:2] != mark:
            break
        header_stop = 4 + body_length(body)[2]
        raw, salted = body[4:header_stop], body[header_stop:]
        try:
            header = decode(raw)
        except msgspec.DecodeError:
            break
        reset()
        update(salted)
        if (
            header.prev_hash != prev_hash
            or header.seq != seq
            or header.t_ns < t_ns
            or header.log_id != log_id
            or header.v != RECORD_VERSION
            or header.payload_hash != digest()
            or len(salted) != header.payload_len + SALT_BYTES
            or header_stop > longest + 4
            or encode(header) != raw
        ):
            break
        reset()
        update(tag + raw)
        prev_hash = digest()
        append(raw)
        t_ns = header.t_ns
        if header.kind in kinds or header.boot_id == boot_id:
            picked.append(Picked(header, salted, prev_hash, at))
        seq += 1
        at = stop + 4
    cursor.seq, cursor.prev_hash, cursor.t_ns = seq, prev_hash, t_ns
    return at
