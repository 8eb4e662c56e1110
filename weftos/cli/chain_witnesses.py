"""What the witnesses of this instance remember, held against the log in its folder.

Asked over their sockets while they run; read from their folders when they do not. A witness that can be neither asked
nor read is left out, and said to be.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from weftos.cli.session import instance
from weftos.errors import ChainCorrupted, WeftError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from weftos.chain import PublicKeys, VerifyReport
    from weftos.chain.signing.checkpoint import Checkpoint

__all__ = ["hold_against_witnesses"]


def hold_against_witnesses(report: VerifyReport, directory: Path, keys: PublicKeys | None) -> list[str]:
    """Add to a report what the witnesses say of the log.

    Args:
        report: of the verification, which is finished.
        directory: of the log.
        keys: of the log; without them nothing that a witness says about its signatures can be told.

    Returns:
        Witnesses that could not be asked, each with the reason.
    """
    from weftos.chain import Problem
    from weftos.chain.signing.checkpoint import log_origin
    from weftos.chain.tiles.tile_tree import root_at

    origin = log_origin(bytes.fromhex(report.log_id))
    silent: list[str] = []
    for name, found in _heads(origin, keys, report):
        if isinstance(found, str):
            silent.append(f"{name}: {found}")
            continue
        if report.checks.witnesses is None:
            report.checks.witnesses = True
        if found.size > report.size:
            report.rolled_back = True
            report.checks.witnesses = False
            detail = f"{name} has signed for {found.size} records, and the log has {report.size}: it was put back"
            report.error(Problem(-1, "checkpoint", 0, "rolled_back", detail))
            continue
        try:
            same = root_at(str(directory), found.size, report.signed_size) == found.root
        except ChainCorrupted as error:
            silent.append(f"{name}: {error}")
            continue
        if not same:
            detail = f"{name} has signed other {found.size} records than those at the beginning of this log"
            report.error(Problem(found.size - 1, "checkpoint", 0, "split_view", detail))
    report.valid = report.valid and report.error_count == 0
    return silent


def _heads(origin: str, keys: PublicKeys | None, report: VerifyReport) -> Iterator[tuple[str, Checkpoint | str]]:
    from weftos.witness.client import WitnessClient
    from weftos.witness.folder import WitnessFolder
    from weftos.witness.outcomes import Head

    home = instance()
    if not home.witnesses.is_dir():
        return
    for folder in sorted(home.witnesses.iterdir()):
        name = f"witness {folder.name}"
        try:
            answer = WitnessClient(str(home.socket.parent / f"witness-{folder.name}.sock")).head(origin, timeout_s=3.0)
            note = answer.note if isinstance(answer, Head) else b""
        except WeftError:
            # It does not run: its memory can be read by whoever may.
            try:
                memory = WitnessFolder(str(folder / "memory"))
                try:
                    note = next((one.head for one in memory.load() if one.origin == origin), b"")
                finally:
                    memory.close()
            except WeftError as error:
                yield name, str(error)
                continue
        if note:
            yield name, _opened(note, origin, keys, report)


def _opened(note: bytes, origin: str, keys: PublicKeys | None, report: VerifyReport) -> Checkpoint | str:
    """Verify that the log itself signed what the witness holds; a witness cannot make that up."""
    from weftos.chain.signing.checkpoint import open_checkpoint, parse_text
    from weftos.chain.signing.note import SignaturePolicy, parse_note

    try:
        if keys is not None and keys.pair_id == report.signed_by:
            return open_checkpoint(note, keys.verifier_keys(origin), SignaturePolicy(), origin)
        return parse_text(parse_note(note).text)
    except WeftError as error:
        return f"what it holds is not signed by the log: {error}"
