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
from collections.abc import Iterable

import msgspec

from weftos.chain.cursor import parse
from weftos.chain.files import Files, ReadFile, write_all
from weftos.chain.frames import FRAME_OVERHEAD, RECORD, WITHHELD, FrameReader, encode_frame
from weftos.chain.locate import record_at
from weftos.chain.record import Record
from weftos.errors import AppendRefused, ChainCorrupted

__all__ = ["announced_to_erase", "check_redactable", "erase_payload"]

#: Kinds whose payload the verification needs, or without which the log would add up to something else.
_NEEDED = frozenset(
    (
        *("genesis", "key.genesis", "key.rotate", "ipc.grant", "ipc.window", "log.seal", "chain.redacted"),
        *("chain.recovered", "lineage.derivation", "chain.bridge", "chain.split_view", "artifact.gc"),
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


def announced_to_erase(directory: str, announced: Iterable[int]) -> list[int]:
    """Return the records whose payload was announced as gone and is still there.

    No checkpoint covers these announcements, so somebody who can write the files can forge one. The writer itself
    never announces what the log needs; all are looked at before the first payload goes.

    Args:
        directory: of the log.
        announced: numbers of records, from announcements that no checkpoint covers.

    Raises:
        ChainCorrupted: the log needs one of these payloads, or what lies in its place is damaged.
        ChainError: there is no such record, or the log cannot be read.
    """
    unfinished: list[int] = []
    for seq in sorted(set(announced)):
        record = record_at(directory, seq)
        if record.withheld:
            continue
        try:
            check_redactable(record)
        except AppendRefused as error:
            raise ChainCorrupted(
                f"{directory}: a chain.redacted record behind the newest checkpoint announces that the payload of "
                f"record {seq} is gone, which no writer does: {error}; nothing was erased"
            ) from error
        unfinished.append(seq)
    return unfinished


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
    place = _find(path, seq)
    if place is None:
        return 0
    offset, body = place
    _, raw, _ = parse(body)
    frame = encode_frame(RECORD, raw, b"", WITHHELD)
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


def _copy(fs: Files, fd: int, file: ReadFile, begin: int, end: int) -> None:
    while begin < end:
        data = file.read(begin, min(end - begin, 1 << 20))
        write_all(fs, fd, data)
        begin += len(data)


def _find(path: str, seq: int) -> tuple[int, bytes] | None:
    with ReadFile(path) as file:
        reader = FrameReader(file)
        frames = iter(reader)
        next(frames, None)  # the segment's header
        before = reader.offset
        for body in frames:
            try:
                header, _, salted = parse(body)
            except msgspec.DecodeError as error:
                raise ChainCorrupted(f"{path}, offset {before}: {error}", path=path, offset=before) from error
            if header.seq == seq:
                return (before, body) if salted else None
            before = reader.offset
    raise ChainCorrupted(f"{path} does not hold record {seq}", path=path)
