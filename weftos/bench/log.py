"""A large log: appending, verifying, proving and opening, and what all that needs of memory.

The log is written by the library itself, in this process, with its keys, its Merkle tree and a checkpoint every second,
in groups of 256 with one sync each; ``tree off`` is the same without keys, and so without tree, tiles and checkpoints.
``open`` is what a boot does before the first append. ``proof`` makes proofs of inclusion, one after the other, from
the files. Memory is the resident set of this process; ``growth`` is from the tenth part of the log to all of it. The
last lines are of a log that is archived and pruned while it grows; there ``growth`` begins at the fifth part.

Why it is as it is: rings and processes are measured by ``chain``; here is what the format itself costs, at a size where
anything that grows with the log shows.
"""

from __future__ import annotations

import gc
import os
import tempfile
import time
from pathlib import Path
from typing import Final

import psutil

from weftos.bench.model import Collector, Settings

__all__ = ["run"]

_RECORDS: Final = 1_000_000
_RECORDS_QUICK: Final = 50_000
_GROUP: Final = 256
_CHECKPOINT_S: Final = 1.0
_PROOFS: Final = 50
_SEGMENT_BYTES: Final = 2 * 1024 * 1024
_KEEP: Final = 3
_TEXT: Final = "x" * 100


def run(settings: Settings) -> Collector:
    """Measure once; a log of this size needs no repetition.

    Raises:
        WeftError: the log cannot be written.
    """
    collector = Collector("log")
    count = _RECORDS_QUICK if settings.quick else _RECORDS
    with tempfile.TemporaryDirectory(prefix="weftos-bench-") as folder:
        _measure(Path(folder), count, collector)
    return collector


def _measure(folder: Path, count: int, collector: Collector) -> None:
    from weftos import chain
    from weftos.chain.verification.proof_file import Prover

    signer = chain.Signer.open(folder / "keys")
    case = f"{count:,} records of 300 B"
    plain = _write(folder / "plain", count // 10, None)
    early, rate = _write_signed(folder / "log", count, signer)
    collector.add(f"append in groups of {_GROUP}, tree off", "weftos", "rate", plain, "1/s")
    collector.add(f"append in groups of {_GROUP}, {case}", "weftos", "rate", rate, "1/s")
    collector.add(f"memory of the writer, {case}", "weftos", "growth", _rss() - early, "B")
    for workers in (1, os.cpu_count() or 1):
        report = chain.verify(folder / "log", keys=signer.public, workers=workers)
        if not report.valid:
            collector.skip("weftos", f"verify: {report.errors[0].detail}")
            return
        name = "one process" if workers == 1 else f"{workers} processes"
        collector.add(f"verify, {name}", "weftos", "rate", report.records / report.elapsed_seconds, "1/s")
    spent = []
    prover = Prover(folder / "log")
    for number in range(_PROOFS):
        began = time.perf_counter()
        prover.prove(number * (count - 1) // (_PROOFS - 1))
        spent.append(time.perf_counter() - began)
    collector.add(f"proof of one record among {count:,}", "weftos", "p50", sorted(spent)[_PROOFS // 2], "s")
    began = time.perf_counter()
    chain.ChainWriter.open(folder / "log", boot_id=os.urandom(16), signer=signer).abandon()
    collector.add(f"open, {case}", "weftos", "time", time.perf_counter() - began, "s")
    _measure_retention(folder / "kept", count, collector)


def _measure_retention(folder: Path, count: int, collector: Collector) -> None:
    """Append to a log that is archived and pruned on the way, all in one thread."""
    from weftos import chain
    from weftos.chain.retention.policy import RetentionPolicy, archive_segments, plan, prune_segments, to_archive

    folder.mkdir()
    signer = chain.Signer.open(folder / "keys")
    writer = chain.ChainWriter.open(
        folder / "log",
        boot_id=os.urandom(16),
        signer=signer,
        segment_bytes=_SEGMENT_BYTES,
        archive=str(folder / "archive"),
    )
    rules = RetentionPolicy(keep_segments=_KEEP)
    archiving = pruning = 0.0
    archived = pruned = early = 0
    with writer:
        for first in range(0, count, 16 * _GROUP):
            for group in range(first, min(first + 16 * _GROUP, count), _GROUP):
                writer.append_many([chain.NewEvent("agent:7", "app.bench", {"n": n, "data": _TEXT}) for n in
                                    range(group, min(group + _GROUP, count))])  # fmt: skip
                writer.commit()
            checkpoint = writer.checkpoint()
            assert checkpoint is not None, "it is signed"
            began = time.perf_counter()
            todo = to_archive(writer.directory, writer.archive, checkpoint.size).segments
            archive_segments(writer, todo)
            archived, archiving = archived + len(todo), archiving + time.perf_counter() - began
            began = time.perf_counter()
            gone = plan(writer.directory, rules, writer.archive, checkpoint.size, 0).segments
            if len(gone) > 1:
                prune_segments(writer, gone, archived=True)
                pruned, pruning = pruned + len(gone), pruning + time.perf_counter() - began
            if not early and first >= count // 5:
                early = _rss()
        case = f"{_SEGMENT_BYTES // 2**20} MiB"
        if archived and pruned:
            collector.add(f"archive a segment of {case}", "weftos", "time", archiving / archived, "s")
            collector.add(f"prune a segment of {case}", "weftos", "time", pruning / pruned, "s")
        collector.add(f"memory of a writer that is pruned, {count:,} records", "weftos", "growth", _rss() - early, "B")
        size = writer.statistics().bytes
        collector.add(f"segments of a log that keeps {_KEEP} of {case}", "weftos", "size", size, "B")


def _write_signed(directory: Path, count: int, signer: object) -> tuple[int, float]:
    """Return the resident memory after a tenth, and the rate."""
    early: list[int] = []
    rate = _write(directory, count, signer, lambda: early.append(_rss()))
    return early[0], rate


def _write(directory: Path, count: int, signer: object, at_a_tenth: object = None) -> float:
    from weftos import chain

    writer = chain.ChainWriter.open(directory, boot_id=os.urandom(16), signer=signer)  # type: ignore[arg-type]
    with writer:
        began = signed = time.perf_counter()
        told = False
        for first in range(0, count, _GROUP):
            writer.append_many(
                [
                    chain.NewEvent("agent:7", "app.bench", {"n": n, "data": _TEXT}, "agent:7", None, "agent:7", n)
                    for n in range(first, min(first + _GROUP, count))
                ]
            )
            writer.commit()
            if time.perf_counter() - signed >= _CHECKPOINT_S:
                writer.checkpoint()
                signed = time.perf_counter()
            if not told and first >= count // 10 and callable(at_a_tenth):
                at_a_tenth()
                told = True
        return count / (time.perf_counter() - began)


def _rss() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)
