"""A store under cuts and alterations at every byte, calls that fail or never return, and a real kill."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vectors_by_hand import UnsyncedFiles, small_limits

from weftos.ecc.vectors.filters import Eq
from weftos.ecc.vectors.model import CollectionSpec, Entry
from weftos.ecc.vectors.sealing import seal
from weftos.ecc.vectors.store import VectorStore
from weftos.errors import JournalDamaged, JournalFailed, VectorsDamaged, WeftError


class Killed(BaseException):
    """The process is gone; nothing that would have come after happens."""


class LimitedFiles(UnsyncedFiles):
    """Lets the n-th call fail, or be the last one: half of a write is done then."""

    def __init__(self, last: int = 1 << 60, *, fails: bool = False) -> None:
        self.calls = 0
        self._last = last
        self._fails = fails
        self._open: set[int] = set()

    def close(self, fd: int) -> None:
        self._open.discard(fd)
        super().close(fd)

    def release(self) -> None:
        """What the end of a process closes."""
        for fd in list(self._open):
            self.close(fd)

    def __getattribute__(self, name: str) -> Any:
        real = super().__getattribute__(name)
        if name.startswith("_") or name in ("calls", "close", "release"):
            return real
        return lambda *given: self._do(name, real, given)

    def _do(self, name: str, real: Any, given: tuple[Any, ...]) -> Any:
        self.calls += 1
        if self.calls == self._last and name == "write":
            real(given[0], bytes(given[1])[: len(given[1]) // 2])
        if self.calls == self._last or (self.calls > self._last and not self._fails):
            raise OSError(errno.ENOSPC, "No space left on device") if self._fails else Killed
        result = real(*given)
        if name in ("create", "open_append"):
            self._open.add(result)
        return result


class Run:
    """A scenario that touches every kind of file, and what it must have left at each point."""

    def __init__(self, fs: Any, folder: str) -> None:
        self.fs, self.folder = fs, folder
        self.roots: dict[int, bytes] = {0: b""}
        self.synced = 0
        self.store: VectorStore | None = None

    def go(self) -> None:
        self.store = store = VectorStore.open(self.fs, self.folder, lambda: 0.0)
        self._did(store.create(CollectionSpec("c", 3)))
        for begin in (0, 8, 4):
            self._put(begin)
            self._sync()
        order = store.wanted()
        self.synced = store.statistics().last_op
        self._put(2)
        self._did(store.delete("c", ["e1", "e9"]))
        sealed = seal(order, self.fs)
        self._sync()
        store.committed(store.statistics().last_op - 2, 7)
        store.adopt(sealed)
        self.synced = store.statistics().last_op
        self._put(20)
        self._sync()
        order = store.wanted()
        self._did(store.delete("c", ["e3"]))
        store.adopt(seal(order, self.fs))
        self._did(store.create(CollectionSpec("d", 2, "l2")))
        self._did(store.drop("d"))
        store.wanted()
        store.sync()
        self.synced = store.statistics().last_op

    def close(self) -> None:
        if self.store is not None:
            self.store.close()

    def _put(self, begin: int) -> None:
        numbers = range(begin, begin + 8)
        entries = [
            Entry(f"e{one}", np.array([one, begin, 1], np.float32), {"n": one}, b"%d" % begin) for one in numbers
        ]
        self._did(self.store.upsert("c", entries))

    def _did(self, _result: Any) -> None:
        self.roots[self.store.statistics().last_op] = self.store.content_root("c")

    def _sync(self) -> None:
        self.store.sync()
        self.synced = self.store.statistics().last_op


def _root(store: VectorStore) -> bytes:
    return store.content_root("c") if store.collections() else b""


def _check(folder: str, run: Run) -> None:
    """What is read is a state that was there, not older than the last one acknowledged; and it goes on."""
    store = VectorStore.open(UnsyncedFiles(), folder)
    try:
        last = store.statistics().last_op
        assert last >= run.synced
        # A change may be on disk and yet never have returned.
        assert last not in run.roots or _root(store) == run.roots[last]
        if not store.collections():
            return
        live = store.collections()[0].live
        hits = store.search("c", np.ones((1, 3), np.float32), 64)[0] if live else []
        assert len(hits) == live
        assert all(store.get("c", [hit.id])[0].op == hit.op for hit in hits)
        store.upsert("c", [Entry("after", np.ones(3, np.float32), {})])
        store.sync()
        assert store.search("c", np.ones((1, 3), np.float32), 1)[0][0].id == "after"
    finally:
        store.close()


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_limits(monkeypatch, VECTOR_FANOUT=8)


@pytest.mark.parametrize("fails", [False, True])
def test_a_store_survives_the_end_at_every_call(tmp_path: Path, fails: bool) -> None:
    whole = LimitedFiles()
    run = Run(whole, str(tmp_path / "whole"))
    run.go()
    run.close()
    assert whole.calls > 60
    assert not whole._open
    for last in range(1, whole.calls + 1):
        folder = str(tmp_path / f"at{last}")
        run = Run(LimitedFiles(last, fails=fails), folder)
        with pytest.raises((Killed, JournalFailed, OSError)):
            run.go()
        run.close()
        if not fails:
            run.fs.release()
        _check(folder, run)
        shutil.rmtree(folder)


def _finished(folder: Path) -> Run:
    run = Run(UnsyncedFiles(), str(folder))
    run.go()
    run.close()
    return run


def _answers(store: VectorStore) -> list[Any]:
    ids = [f"e{number}" for number in range(30)]
    query = np.array([[1, 2, 3]], np.float32)
    found = [one and (one.id, one.vector.tolist(), one.metadata, one.document, one.op) for one in store.get("c", ids)]
    hits = [store.search("c", query, 30)[0], store.search("c", query, 30, condition=Eq("n", 21))[0]]
    return [found, hits, store.content_root("c"), store.proof(3), store.uncommitted()]


def _whole_or_refused(folder: Path, truth: list[Any]) -> bool:
    """Open and ask everything: the true answers, or an error that says what is wrong. True for an error."""
    before = {name: (folder / name).read_bytes() for name in os.listdir(folder)}
    try:
        store = VectorStore.open(UnsyncedFiles(), str(folder))
    except JournalDamaged:
        assert {name: (folder / name).read_bytes() for name in os.listdir(folder)} == before
        return True
    try:
        assert _answers(store) == truth
    except VectorsDamaged:
        return True
    finally:
        store.close()
    return False


def _damage(tmp_path: Path, pattern: str, step: int) -> tuple[int, int, int]:
    """Alter and cut a file at every ``step``-th byte; return refusals of both and the number of places."""
    folder = tmp_path / "s"
    run = _finished(folder)
    store = VectorStore.open(UnsyncedFiles(), str(folder))
    truth = _answers(store)
    store.close()
    assert truth[2] == run.roots[max(run.roots)]
    path = sorted(folder.glob(pattern))[0]
    whole = path.read_bytes()
    places = range(0, len(whole), step)
    altered = cut = 0
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        altered += _whole_or_refused(folder, truth)
        path.write_bytes(whole[:place])
        cut += _whole_or_refused(folder, truth)
    path.write_bytes(whole)
    assert not _whole_or_refused(folder, truth)
    return altered, cut, len(places)


@pytest.mark.parametrize(("pattern", "step"), [("manifest", 23), ("ops.leaves", 11), ("ops.commitments", 1)])
def test_small_files_are_refused_when_a_byte_differs_or_is_missing(tmp_path: Path, pattern: str, step: int) -> None:
    altered, cut, places = _damage(tmp_path, pattern, step)
    assert (altered, cut) == (places, places)


def test_a_segment_answers_truly_or_refuses(tmp_path: Path) -> None:
    altered, cut, places = _damage(tmp_path, "segment-*", 29)
    assert cut == places
    assert altered > places * 0.8  # what is left are the bytes between sections, which nobody reads


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["manifest", "ops.leaves", "ops.commitments", "segment-*"])
def test_every_byte_of_every_file(tmp_path: Path, pattern: str) -> None:
    altered, cut, places = _damage(tmp_path, pattern, 1)
    assert cut == places
    assert altered == places or pattern == "segment-*"


def _journal_places(tmp_path: Path, step: int) -> None:
    folder = tmp_path / "j"
    run = Run(UnsyncedFiles(), str(folder))
    store = run.store = VectorStore.open(UnsyncedFiles(), str(folder), lambda: 0.0)
    run._did(store.create(CollectionSpec("c", 3)))
    for begin in (0, 8, 4, 0):
        run._put(begin)
        run._did(store.delete("c", [f"e{begin}"]))
        store.sync()
    store.close()
    path = folder / "journal-00000001"
    whole = path.read_bytes()
    copy = tmp_path / "copy"
    for place in range(64, len(whole), step):
        for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]):
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(folder, copy)
            (copy / path.name).write_bytes(damaged)
            try:
                again = VectorStore.open(UnsyncedFiles(), str(copy))
            except JournalDamaged:
                assert (copy / path.name).read_bytes() == damaged
                assert len(damaged) == len(whole), "a cut is a torn tail"
                continue
            assert _root(again) == run.roots[again.statistics().last_op]
            again.close()


def test_a_journal_cut_or_altered_gives_a_state_that_was_there(tmp_path: Path) -> None:
    _journal_places(tmp_path, 17)


@pytest.mark.slow
def test_a_journal_cut_or_altered_at_every_byte(tmp_path: Path) -> None:
    _journal_places(tmp_path, 1)


def test_files_that_are_missing_or_of_another_store_are_refused(tmp_path: Path) -> None:
    _finished(tmp_path / "one")
    _finished(tmp_path / "two")
    for pattern in ("manifest", "ops.leaves", "segment-*", "journal-*"):
        for replaced in (False, True):
            folder = tmp_path / "copy"
            shutil.copytree(tmp_path / "one", folder)
            path = sorted(folder.glob(pattern))[0]
            path.unlink()
            if replaced and pattern == "segment-*":
                shutil.copy(sorted((tmp_path / "two").glob(pattern))[0], path)
            with pytest.raises(JournalDamaged, match="restore"):
                VectorStore.open(UnsyncedFiles(), str(folder))
            shutil.rmtree(folder)


def test_a_segment_that_was_damaged_before_it_was_adopted_is_given_up(tmp_path: Path) -> None:
    folder = str(tmp_path / "s")
    run = Run(UnsyncedFiles(), folder)
    store = run.store = VectorStore.open(UnsyncedFiles(), folder)
    store.create(CollectionSpec("c", 3))
    run._put(0)
    order = store.wanted()
    sealed = seal(order, UnsyncedFiles())
    path = Path(folder, sealed.file)
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + b"\xff" + whole[201:])
    with pytest.raises(VectorsDamaged):
        store.adopt(sealed)
    assert len(store.search("c", np.ones((1, 3), np.float32), 20)[0]) == 8
    again = store.wanted()
    assert (again.ops, again.rows) == (order.ops, 8)
    store.adopt(seal(again, UnsyncedFiles()))
    assert store.collections()[0].segments == 1
    with pytest.raises(WeftError, match="no order"):
        store.adopt(sealed)
    store.close()


_CHILD = """
import itertools, sys
import numpy as np
from weftos import limits
from weftos.disk.files import RealFiles
from weftos.ecc.vectors.model import CollectionSpec, Entry
from weftos.ecc.vectors.sealing import seal
from weftos.ecc.vectors.store import VectorStore

limits.VECTOR_DELTA_ROWS = 40
limits.VECTOR_FANOUT = 2
store = VectorStore.open(RealFiles(), sys.argv[1])
store.create(CollectionSpec("c", 3))
for turn in itertools.count():
    numbers = [turn * 3 % 200 + at for at in range(5)]
    store.upsert("c", [Entry(f"e{one}", np.array([one, turn, 1], np.float32), {"turn": turn}) for one in numbers])
    store.delete("c", [f"e{turn % 50}"])
    store.sync()
    print(store.statistics().last_op, store.content_root("c").hex(), flush=True)
    order = store.wanted()
    if order:
        store.adopt(seal(order, RealFiles()))
"""


@pytest.mark.parametrize("lines", [3, 40])
def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path, lines: int) -> None:
    folder = str(tmp_path / "s")
    child = subprocess.Popen([sys.executable, "-c", _CHILD, folder], stdout=subprocess.PIPE, text=True)
    try:
        roots = dict(child.stdout.readline().split() for _ in range(lines))
    finally:
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read()
        child.stdout.close()
        child.wait()
    roots.update(line.split() for line in rest.splitlines() if len(line.split()) == 2 and len(line.split()[1]) == 64)
    store = VectorStore.open(UnsyncedFiles(), folder)
    last = store.statistics().last_op
    assert last >= max(map(int, roots))
    assert store.content_root("c").hex() == roots.get(str(last), store.content_root("c").hex())
    store.close()
