"""Seals held against the log that they are in: made by the operator's keys, none missing, and over these very records.

Why it is as it is: the seals of a log come in rows. A row begins with epoch 1 and belongs to one first key; a state
that was lost or made anew begins another. Each row must belong to a key that the operator has, or else whoever took
over the machine could begin a row of his own and pass it off as the log's. That a seal is genuine says only that
somebody sealed this root; so the roots are compared with the tree over the records that were verified.

Guaranteed, to whoever has the first keys: no record that a seal covers was changed since, unless by somebody who had
the key of that epoch. Not guaranteed: that seals at the end were not removed. That is told only if the state that makes
them is at hand, or somebody noted how many there were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from weftos.chain.folder.archive import open_segment
from weftos.chain.folder.segments import Listing
from weftos.chain.records.cursor import Cursor
from weftos.chain.records.frames import FrameReader, decode_segment_header
from weftos.chain.records.scanner import Batch, Scanner
from weftos.chain.statements.seals import SEAL_KIND, Seal, verify_seals
from weftos.chain.verification.report import Problem, SealsReport, VerifyReport
from weftos.chain.verification.verify_special import PlacedSeal
from weftos.errors import ChainError, SealGap, SealInvalid

__all__ = ["SealCheck", "check_seals", "sealed_sizes"]

_ZEROS = bytes(32)


class SealCheck(NamedTuple):
    """With what seals are checked.

    Attributes:
        keys: first keys, 32 bytes each.
        last: the newest seal, as the state says that makes them; ``None`` if it made none or is not at hand.
    """

    keys: Sequence[bytes]
    last: Seal | None = None


def sealed_sizes(listing: Listing) -> list[int]:
    """Return the ends of the ranges that the seals of a log say to cover. Nothing is verified; damage is passed over.

    Raises:
        OSError: a file cannot be read.
    """
    return sorted({seal.end for number in listing.segments for seal in _seals_in(listing.path(number)) if seal.end})


def _seals_in(path: str) -> Iterator[Seal]:
    from weftos.chain.records.canonical import decode_payload
    from weftos.chain.records.record import SALT_BYTES

    with open_segment(path) as file:
        reader = FrameReader(file)
        try:
            header = decode_segment_header(next(iter(reader), b""))
        except ValueError:  # msgspec's errors are
            return
        cursor = Cursor(header.log_id, header.first_seq, header.prev_hash)
        for part in Scanner(file, reader.offset, cursor, kinds=frozenset((SEAL_KIND,))):
            if not isinstance(part, Batch):
                cursor.take(part.body)
                continue
            for one in part.picked:
                try:
                    yield Seal.from_payload(decode_payload(one.salted[SALT_BYTES:]))
                except (ValueError, ChainError):
                    continue


def check_seals(
    report: VerifyReport,
    placed: Sequence[PlacedSeal],
    check: SealCheck,
    roots: dict[int, bytes],
    log_id: bytes | None,
    *,
    cut: int = 0,
) -> None:
    """Check the seals of a log and note what is found.

    Args:
        report: where it is noted.
        placed: the seals of the log with their places, in order.
        check: with what they are checked.
        roots: of the log's verified tree, by size.
        log_id: of the log, 16 bytes.
        cut: number of the oldest record that was read; those before were pruned.
    """
    summary = report.seals = SealsReport()
    left = list(check.keys)
    for index, row in enumerate(_rows(placed)):
        _check_row(report, summary, row, left, log_id, headless=bool(cut) and index == 0)
    for one in placed:
        seal = one.seal
        if seal.first_seq != 0:
            _error(
                report, one, "seal_invalid", f"it covers records from {seal.first_seq} on; seals begin with record 0"
            )
        elif seal.end > one.seq:
            _error(report, one, "seal_invalid", f"it covers {seal.end} records, and is itself number {one.seq}")
        elif seal.end in roots and roots[seal.end] != seal.root:
            _error(report, one, "seal_root", f"the first {seal.end} records are not those that were sealed")
        elif seal.end not in roots and not report.error_count:
            _error(report, one, "seal_root", f"the tree over the first {seal.end} records cannot be computed")
    if cut and (not placed or placed[0].seal.epoch > 1):
        detail = f"seals before record {cut} were pruned: those were not checked, nor what is missing of them"
        report.warnings.append(Problem(-1, "", 0, "seals_unchecked", detail))
    if not placed and cut and (check.last is None or check.last.end <= cut):
        return
    if not placed:
        report.error(Problem(-1, "", 0, "seal_gap", "sealing keys were given, and the log has no seals"))
    elif check.last is not None and not _reaches(placed, check.last):
        missing = f"the state has made a seal of epoch {check.last.epoch}, and the log does not lead up to it"
        _error(report, placed[-1], "seal_gap", f"{missing}: seals after this one were removed")
    if report.checks.seals is None:
        report.checks.seals = True


def _reaches(placed: Sequence[PlacedSeal], last: Seal) -> bool:
    """Whether the state's newest seal is on the log, or is the next one: it is on the disk before it is on the log."""
    if last.epoch == 1 or last.previous == placed[-1].seal.mac:
        return True
    return any(one.seal.mac == last.mac for one in placed)


def _rows(placed: Sequence[PlacedSeal]) -> Iterator[list[PlacedSeal]]:
    row: list[PlacedSeal] = []
    for one in placed:
        begins = one.seal.epoch == 1 and one.seal.previous == _ZEROS
        if begins and row and one.seal != row[-1].seal:
            yield row
            row = []
        row.append(one)
    if row:
        yield row


def _check_row(
    report: VerifyReport,
    summary: SealsReport,
    row: list[PlacedSeal],
    keys: list[bytes],
    log_id: bytes | None,
    *,
    headless: bool,
) -> None:
    """Find the key of a row, and note what is wrong with it."""
    seals = [one.seal for one in row]
    fault: SealInvalid | None = None
    for key in keys:
        try:
            found = verify_seals(key, seals, log_id=log_id, headless=headless)
        except SealGap as gap:
            after = next(one for one in row if one.seal.epoch > gap.epoch)
            _error(report, after, "seal_gap", str(gap))
            summary.next_epoch, summary.sealed = seals[-1].epoch + 1, seals[-1].end
        except SealInvalid as error:
            if error.index == 0 or (fault is not None and fault.index >= error.index):
                fault = fault or error
                continue
            fault = error
            continue
        else:
            summary.next_epoch, summary.sealed = found.next_epoch, found.end
            summary.seals += found.seals
        summary.rows += 1
        keys.remove(key)
        return
    index = fault.index if fault is not None else 0
    why = "no key that was given made it" if fault is None or index == 0 else str(fault)
    _error(report, row[index], "seal_invalid", f"the seal of epoch {seals[index].epoch}: {why}")


def _error(report: VerifyReport, one: PlacedSeal, code: str, detail: str) -> None:
    report.error(Problem(one.seq, one.file, one.offset, code, detail))
