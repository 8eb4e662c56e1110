"""Taking a payload away for good, while the log still verifies.

Why it is as it is: what the hashes and the tree cover is the header part of a record, and of the payload its salted
hash. So the payload can go: the segment is written anew without it, and a record on the log says which payload went,
when, why and by whose wish. A payload that is gone without such a record is damage.

The order makes a crash harmless. The record that says so is on the disk first; then the segment is replaced. What was
announced and not done is done when the log is opened next, before a checkpoint covers the announcement.

Guaranteed: afterwards no file of the log holds the payload or its salt. The old segment's bytes are overwritten in
place before it is given up. Not guaranteed: that the medium keeps no older copy (file systems that copy on write, SSDs,
backups, copies of the log elsewhere).
"""

from __future__ import annotations

import os

import msgspec

from weftos.chain.records.cursor import parse
from weftos.chain.records.frames import FRAME_OVERHEAD, RECORD, WITHHELD, FrameReader, encode_frame
from weftos.chain.records.record import Record
from weftos.disk.files import Files, ReadFile, write_all
from weftos.errors import AppendRefused, ChainCorrupted

__all__ = ["check_redactable", "erase_payload", "find_payload", "without_payload"]

#: Kinds whose payload the verification needs, or without which the log would add up to something else.
_NEEDED = frozenset(
    (
        *("genesis", "key.genesis", "key.rotate", "ipc.grant", "ipc.window", "log.seal", "chain.redacted"),
        *("chain.recovered", "lineage.derivation", "chain.bridge", "chain.split_view", "artifact.gc"),
        *("chain.archived", "chain.pruned"),
        *("governance.genesis", "governance.root.supersede", "governance.policies", "env.switch"),
        *("gate.approve", "gate.refuse", "gate.expire", "permit.mint", "permit.use"),
    )
)


def check_redactable(record: Record) -> None:
    """Refuse to take away what the log needs.

    Raises:
        AppendRefused: it does, or the payload is gone already.
    """
    if record.withheld:
        raise AppendRefused(f"the payload of record {record.seq} is gone already")
    if record.kind in _NEEDED:
        raise AppendRefused(
            f"record {record.seq} is of kind {record.kind}: the log cannot be verified without its payload"
        )


def erase_payload(fs: Files, path: str, seq: int) -> int:
    """Write a segment anew without the payload of one record.

    Args:
        fs: file calls.
        path: of the segment; nobody writes to it.
        seq: number of the record.

    Returns:
        How many bytes the file is shorter; 0 if the payload was gone already.

    Raises:
        ChainCorrupted: the record is not in the segment.
        OSError: a call failed; the old segment is still there, or already the new one.
    """
    with ReadFile(path) as file:
        place = find_payload(file, seq)
    if place is None:
        return 0
    offset, body = place
    frame = without_payload(body)
    old_size = len(body) + FRAME_OVERHEAD
    temporary = f"{path}.tmp"
    if os.path.lexists(temporary):
        fs.unlink(temporary)
    old = fs.open_overwrite(path)
    try:
        fd = fs.create(temporary)
        try:
            with ReadFile(path) as file:
                _copy(fs, fd, file, 0, offset)
                write_all(fs, fd, frame)
                _copy(fs, fd, file, offset + old_size, file.size)
            fs.sync_file(fd)
        finally:
            fs.close(fd)
        fs.rename(temporary, path)
        fs.sync_dir(os.path.dirname(path))
        # The name leads to the new file now; what the old one held is overwritten before its blocks are given back.
        os.lseek(old, offset, os.SEEK_SET)
        write_all(fs, old, bytes(old_size))
        fs.sync_file(old)
    finally:
        fs.close(old)
    return old_size - len(frame)


def without_payload(body: bytes) -> bytes:
    """Return the frame of a record with its payload and salt taken out."""
    return encode_frame(RECORD, parse(body)[1], b"", WITHHELD)


def _copy(fs: Files, fd: int, file: ReadFile, begin: int, end: int) -> None:
    while begin < end:
        data = file.read(begin, min(end - begin, 1 << 20))
        write_all(fs, fd, data)
        begin += len(data)


def find_payload(file: ReadFile, seq: int) -> tuple[int, bytes] | None:
    """Return offset and body of a record's frame; ``None`` if its payload is gone already.

    Raises:
        ChainCorrupted: the record is not in the segment.
        OSError: it cannot be read.
    """
    reader = FrameReader(file)
    frames = iter(reader)
    next(frames, None)  # the segment's header
    before = reader.offset
    for body in frames:
        try:
            header, _, salted = parse(body)
        except msgspec.DecodeError as error:
            raise ChainCorrupted(f"{file.path}, offset {before}: {error}", path=file.path, offset=before) from error
        if header.seq == seq:
            return (before, body) if salted else None
        before = reader.offset
    raise ChainCorrupted(f"{file.path} does not hold record {seq}", path=file.path)
