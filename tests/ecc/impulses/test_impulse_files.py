"""The files of the queue: killed at every byte and every call, altered at every byte, hostile content."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from blake3 import blake3
from dying_files import DyingFiles, UnsyncedFiles
from store_deaths import die_at_every_call
from virtual_clock import VirtualClock

from weftos import limits
from weftos.disk.files import Files, RealFiles
from weftos.ecc.hlc import HybridClock
from weftos.ecc.impulses.model import ImpulseSettings, ImpulseType
from weftos.ecc.impulses.queue import ImpulseQueue
from weftos.ecc.journal import HEADER_BYTES, Journal
from weftos.ecc.universal import StructureTag
from weftos.errors import JournalDamaged, JournalFailed

SETTINGS = ImpulseSettings(max_attempts=2)


def _open(folder: Path, fs: Files | None = None) -> ImpulseQueue:
    clock = VirtualClock()
    return ImpulseQueue.open(fs or UnsyncedFiles(), str(folder), clock, HybridClock(clock), SETTINGS)


def _emit(queue: ImpulseQueue, text: str = "") -> int:
    return queue.emit(
        ImpulseType.EDGE_CONFIRMED,
        source_structure=StructureTag.CAUSAL_GRAPH,
        source_node=bytes(32),
        target_structure=StructureTag.HNSW_INDEX,
        payload={"t": text},
    )


_Held = tuple[list[tuple[int, int]], list[int], int]


def _held(queue: ImpulseQueue) -> _Held:
    """What is there: numbers with attempts, the dead, and how many were done."""
    state = queue._state
    return [(n, one.attempts) for n, one in sorted(state.live.items())], list(state.dead), state.done


def _work(queue: ImpulseQueue, seen: list[_Held]) -> None:
    changes = [
        lambda: [_emit(queue, "one"), _emit(queue, "two"), _emit(queue, "three")],
        lambda: queue.lease(2),
        lambda: queue.done([1]),
        lambda: queue.release([2]),
        lambda: queue.lease(2),
        lambda: _emit(queue, "four"),
    ]
    for step, change in enumerate(changes):
        change()
        seen.append(_held(queue))
        queue.sync()
        if step == 2:
            queue.compact()


def _found(folder: Path) -> _Held:
    queue = _open(folder)
    try:
        return _held(queue)
    finally:
        queue.close()


def test_a_journal_cut_at_any_byte_gives_the_queue_of_that_time(tmp_path: Path) -> None:
    queue = _open(tmp_path)
    seen: list[_Held] = []
    _work(queue, seen)
    queue.close()
    journal = tmp_path / "impulses.journal"
    whole = journal.read_bytes()
    places = []
    for cut in range(HEADER_BYTES, len(whole) + 1):
        journal.write_bytes(whole[:cut])
        places.append(seen.index(_found(tmp_path)))
    assert sorted(places) == places
    assert set(places) == {2, 3, 4, 5}


def test_an_altered_byte_is_damage_or_a_torn_last_sync(tmp_path: Path) -> None:
    queue = _open(tmp_path)
    seen: list[_Held] = []
    _work(queue, seen)
    queue.close()
    for name, always in (("impulses.snapshot", True), ("impulses.journal", False)):
        path = tmp_path / name
        whole = path.read_bytes()
        for place in range(len(whole)):
            altered = bytearray(whole)
            altered[place] ^= 0x08
            path.write_bytes(altered)
            try:
                assert _found(tmp_path) == seen[-2]
                assert not always
            except JournalDamaged:
                assert path.read_bytes() == altered, "damage is left as it was found"
            path.write_bytes(whole)
        for cut in range(len(whole) if always else HEADER_BYTES):
            path.write_bytes(whole[:cut])
            with pytest.raises(JournalDamaged):
                _found(tmp_path)
        path.write_bytes(whole)
    assert _found(tmp_path) == seen[-1]


def test_a_death_at_any_call_loses_nothing_that_was_synced(tmp_path: Path) -> None:
    die_at_every_call(tmp_path, lambda fs, folder: _open(Path(folder), fs), _work, _held)


def test_after_a_failed_sync_the_queue_takes_and_gives_nothing_more(tmp_path: Path) -> None:
    queue = _open(tmp_path)
    _emit(queue)
    queue.sync()
    queue.close()
    queue = _open(tmp_path, DyingFiles(2))
    _emit(queue)
    with pytest.raises(JournalFailed):
        queue.sync()
    calls = [
        lambda: _emit(queue),
        lambda: queue.lease(1),
        lambda: queue.done([1]),
        lambda: queue.release([1]),
        lambda: queue.revive([1]),
        lambda: queue.purge([1]),
        queue.sync,
        queue.compact,
    ]
    for call in calls:
        with pytest.raises(JournalFailed, match="open"):
            call()
    queue.close()
    assert _found(tmp_path) == ([(1, 0)], [], 0)


def test_numbers_are_never_used_again(tmp_path: Path) -> None:
    queue = _open(tmp_path)
    queue.done([_emit(queue), _emit(queue)])
    queue.compact()
    queue.close()
    again = _open(tmp_path)
    assert _emit(again) == 3
    again.close()


def test_the_journal_is_cut_on_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ECC_JOURNAL_CUT_BYTES", 4000)
    queue = _open(tmp_path)
    largest = 0
    for _ in range(100):
        queue.done([_emit(queue, "x" * 100)])
        queue.sync()
        largest = max(largest, (tmp_path / "impulses.journal").stat().st_size)
    assert 3000 < largest <= 4000
    queue.close()
    assert _found(tmp_path) == ([], [], 100)


@pytest.mark.parametrize(
    "change",
    [
        ["d", [7]],
        ["l", [7]],
        ["k", [7]],
        ["x", [7], "weakest"],
        ["e", 5, 1, 3, bytes(32), 4, 1, 0.5, b"{}"],
        ["e", 1, 99, 3, bytes(32), 4, 1, 0.5, b"{}"],
        ["e", 1, 1, 9, bytes(32), 4, 1, 0.5, b"{}"],
        ["e", 1, 1, 3, bytes(3), 4, 1, 0.5, b"{}"],
        ["e", 1, 1, 3, bytes(32), 4, -1, 0.5, b"{}"],
        ["e", 1, 1, 3, bytes(32), 4, 1, 0.0, b"{}"],
        ["e", 1, 1, 3, bytes(32), 4, 1, float("nan"), b"{}"],
        ["?", 1],
        "text",
    ],
    ids=repr,
)
def test_a_change_that_cannot_be_made_is_damage(tmp_path: Path, change: object) -> None:
    _open(tmp_path).close()
    path = str(tmp_path / "impulses.journal")
    journal = Journal.open(RealFiles(), path, "impulses", lambda _content: None)
    journal.append(msgspec.msgpack.encode([change]))
    journal.sync()
    journal.close()
    with pytest.raises(JournalDamaged, match="cannot be made again"):
        _open(tmp_path)


def test_a_snapshot_that_makes_no_queue_is_damage(tmp_path: Path) -> None:
    _open(tmp_path).close()
    for body in (b"", msgspec.msgpack.encode([1, 2]), msgspec.msgpack.encode({"a": 1})):
        (tmp_path / "impulses.snapshot").write_bytes(b"WEFTIMP1" + blake3(body).digest() + body)
        with pytest.raises(JournalDamaged, match="makes no impulses"):
            _open(tmp_path)
