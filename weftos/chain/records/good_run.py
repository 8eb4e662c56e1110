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
from weftos.chain.records.cursor import Cursor
from weftos.chain.records.frames import BODY, FRAME_HEAD, FRAME_OVERHEAD, LENGTH, MAX_BODY, RECORD
from weftos.chain.records.record import HEADER_DECODER, LEAF_TAG, RECORD_VERSION, SALT_BYTES, Header, encode_header

__all__ = ["Picked", "pass_good_records"]


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
    unpack, unpack_length = FRAME_HEAD.unpack_from, LENGTH.unpack_from
    decode, encode, tag = HEADER_DECODER.decode, encode_header, LEAF_TAG
    log_id, seq, prev_hash, t_ns = cursor.log_id, cursor.seq, cursor.prev_hash, cursor.t_ns
    end, append, longest = len(data) - FRAME_OVERHEAD - BODY.size, entries.append, limits.CHAIN_HEADER_BYTES
    last_stop = len(data) - LENGTH.size
    while at < end:
        size, crc, kind, flags, length = unpack(data, at)
        start = at + 8
        stop = start + size
        if size > MAX_BODY or stop > last_stop or unpack_length(data, stop)[0] != size:
            break
        if kind != RECORD or flags or crc32(data[start:stop], size) != crc:
            break
        header_stop = start + 4 + length
        raw, salted = data[start + 4 : header_stop], data[header_stop:stop]
        try:
            header = decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):  # the second is not wrapped by msgspec
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
            or length > longest
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
