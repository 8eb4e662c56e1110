"""Putting pages of raw records together from answers that may hold less than one record."""

from __future__ import annotations

from collections.abc import Generator

from weftos.chain.folder.pages import Page, RawRecord
from weftos.errors import ProtocolError
from weftos.service import protocol as p

__all__ = ["one_page"]


def one_page(seq: int, max_records: int, max_bytes: int) -> Generator[p.TailFrom, p.Reply, Page]:
    """Ask for a page: yields requests, is sent their answers, and returns the page with whole records.

    The same for those who wait for an answer and those who await it.

    Args:
        seq: number of the first record.
        max_records: at most.
        max_bytes: at most, unless one record has more.

    Raises:
        ProtocolError: an answer is not what was asked for.
    """
    answer = _checked((yield p.TailFrom(seq, max_records, max_bytes)), seq)
    if not answer.missing:
        return Page(seq, answer.records, answer.note)
    if len(answer.records) != 1:
        raise ProtocolError("a page with a part of a record has that record alone")
    header, salted = answer.records[0].header, answer.records[0].salted
    note, missing = answer.note, answer.missing
    while missing:
        part = _checked((yield p.TailFrom(seq, 1, max_bytes, len(salted))), seq)
        if len(part.records) != 1 or not part.records[0].salted or part.missing >= missing:
            raise ProtocolError(f"the rest of record {seq} does not come")
        salted += part.records[0].salted
        note, missing = part.note or note, part.missing
    return Page(seq, [RawRecord(header, salted)], note)


def _checked(answer: p.Reply, seq: int) -> p.RawPage:
    if not isinstance(answer, p.RawPage) or answer.seq != seq:
        raise ProtocolError(f"a question for records from {seq} on was answered with {type(answer).__name__}")
    return answer
