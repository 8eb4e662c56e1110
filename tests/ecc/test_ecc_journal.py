"""The journal of the cognitive layer: every cut point, every altered byte, every failing call."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from weftos.disk.files import RealFiles
from weftos.ecc.journal import HEADER_BYTES, RECORD_HEAD_BYTES, Journal, read_head
from weftos.errors import JournalDamaged, JournalFailed

CONTENTS = [b"a", b"second record", b"\xf5REC" * 9, b"z" * 100]


class FailingFiles(RealFiles):
    """Lets one kind of call fail."""

    def __init__(self, call: str) -> None:
        self._call = call

    def __getattribute__(self, name: str) -> object:
        if name == object.__getattribute__(self, "_call"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return object.__getattribute__(self, name)


def _write(path: str, contents: list[bytes], *, sync_each: bool) -> list[int]:
    journal = Journal.create(RealFiles(), path, "test", 3)
    ends = []
    for content in contents:
        journal.append(content)
        ends.append(journal.size)
        if sync_each:
            journal.sync()
    journal.sync()
    journal.close()
    return ends


def _read(path: str) -> list[bytes]:
    found: list[bytes] = []
    Journal.open(RealFiles(), path, "test", found.append).close()
    return found


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "j")


@pytest.mark.parametrize("sync_each", [True, False])
def test_a_journal_cut_at_any_byte_gives_the_whole_records_before(path: str, sync_each: bool) -> None:
    ends = _write(path, CONTENTS, sync_each=sync_each)
    whole = Path(path).read_bytes()
    assert ends[-1] == len(whole)
    for cut in range(HEADER_BYTES, len(whole) + 1):
        Path(path).write_bytes(whole[:cut])
        expected = CONTENTS[: sum(end <= cut for end in ends)]
        assert _read(path) == expected
        assert _read(path) == expected
        assert os.path.getsize(path) == ([HEADER_BYTES, *ends])[len(expected)]


def test_a_cut_header_is_damage(path: str) -> None:
    _write(path, CONTENTS, sync_each=True)
    whole = Path(path).read_bytes()
    for cut in range(HEADER_BYTES):
        Path(path).write_bytes(whole[:cut])
        with pytest.raises(JournalDamaged):
            _read(path)


def test_an_altered_byte_of_what_was_synced_before_the_last_record_is_damage(path: str) -> None:
    ends = _write(path, CONTENTS, sync_each=True)
    whole = Path(path).read_bytes()
    for place in range(ends[-2]):
        altered = bytearray(whole)
        altered[place] ^= 0x40
        Path(path).write_bytes(altered)
        with pytest.raises(JournalDamaged):
            _read(path)
        assert Path(path).read_bytes() == altered, "damage is left as it was found"


def test_an_altered_byte_in_one_unsynced_write_is_a_torn_tail(path: str) -> None:
    ends = _write(path, CONTENTS, sync_each=False)
    whole = Path(path).read_bytes()
    for place in range(HEADER_BYTES, len(whole)):
        altered = bytearray(whole)
        altered[place] ^= 0x40
        Path(path).write_bytes(altered)
        assert _read(path) == CONTENTS[: sum(end <= place for end in ends)]


def test_what_is_appended_after_a_torn_tail_is_read(path: str) -> None:
    ends = _write(path, CONTENTS, sync_each=True)
    os.truncate(path, ends[-1] - 1)
    journal = Journal.open(RealFiles(), path, "test", lambda _content: None)
    journal.append(b"after")
    assert journal.sync() == ends[-2] + RECORD_HEAD_BYTES + 5
    journal.append(b"never synced")
    journal.close()
    assert _read(path) == [*CONTENTS[:-1], b"after"]


def test_cut_begins_anew_with_the_next_generation(path: str) -> None:
    journal = Journal.create(RealFiles(), path, "test", 3)
    journal.append(b"old")
    journal.sync()
    journal.cut(4)
    journal.append(b"new")
    journal.sync()
    journal.close()
    assert _read(path) == [b"new"]
    assert read_head(path, "test").generation == 4


def test_a_record_of_an_earlier_journal_is_not_taken_for_one_of_this(path: str, tmp_path: Path) -> None:
    _write(path, CONTENTS, sync_each=True)
    other = str(tmp_path / "other")
    _write(other, [], sync_each=True)
    with open(other, "ab") as file:
        file.write(Path(path).read_bytes()[HEADER_BYTES:])
    assert _read(other) == []


@pytest.mark.parametrize("call", ["write", "sync_data"])
def test_a_failed_call_ends_the_journal(path: str, call: str) -> None:
    _write(path, CONTENTS, sync_each=True)
    journal = Journal.open(FailingFiles(call), path, "test", lambda _content: None)
    journal.append(b"lost")
    with pytest.raises(JournalFailed, match="No space"):
        journal.sync()
    with pytest.raises(JournalFailed, match="failed before"):
        journal.append(b"more")
    journal.close()
    assert _read(path)[: len(CONTENTS)] == CONTENTS


def test_a_failed_cut_keeps_the_records(path: str) -> None:
    _write(path, CONTENTS, sync_each=True)
    journal = Journal.open(FailingFiles("rename"), path, "test", lambda _content: None)
    with pytest.raises(JournalFailed):
        journal.cut(9)
    journal.close()
    assert _read(path) == CONTENTS


def test_another_kind_is_refused(path: str) -> None:
    _write(path, CONTENTS, sync_each=True)
    with pytest.raises(JournalDamaged, match="'test'"):
        Journal.open(RealFiles(), path, "vectors", lambda _content: None)


@pytest.mark.parametrize("content", [b"", bytes(64 * 1024 * 1024 + 1)], ids=["empty", "too large"])
def test_a_record_out_of_bounds_is_refused(path: str, content: bytes) -> None:
    journal = Journal.create(RealFiles(), path, "test")
    with pytest.raises(JournalFailed, match="does not fit"):
        journal.append(content)
    journal.close()


def test_records_are_appended_while_another_thread_waits_for_the_disk(path: str) -> None:
    journal = Journal.create(RealFiles(), path, "test", 3)
    whole = b""
    for turn in range(5):
        journal.append(b"before %d" % turn)
        size = journal.size
        bring = journal.begin_sync()
        assert bring is not None
        journal.append(b"meanwhile %d" % turn)
        assert journal.synced < size < journal.size
        thread = threading.Thread(target=bring)
        thread.start()
        journal.finish_sync()
        assert journal.synced == size
        assert Path(path).read_bytes().startswith(whole)
        whole = Path(path).read_bytes()
        assert len(whole) == size
        thread.join()
    assert journal.sync() == journal.size
    assert journal.begin_sync() is None
    journal.finish_sync()
    journal.close()
    assert _read(path) == [name % turn for turn in range(5) for name in (b"before %d", b"meanwhile %d")]


@pytest.mark.parametrize("end", ["sync", "cut", "begin_sync", "close"])
def test_whatever_touches_the_file_waits_for_the_thread(path: str, end: str) -> None:
    journal = Journal.create(RealFiles(), path, "test", 3)
    journal.append(b"first")
    bring = journal.begin_sync()
    assert bring is not None
    journal.append(b"second")
    done = threading.Event()
    act = {
        "sync": journal.sync,
        "cut": lambda: journal.cut(4),
        "begin_sync": lambda: (journal.begin_sync() or (lambda: None))(),
        "close": journal.close,
    }[end]
    thread = threading.Thread(target=lambda: (act(), done.set()))
    thread.start()
    assert not done.wait(0.05)
    bring()
    assert done.wait(10)
    thread.join()
    journal.close()
    assert _read(path) == {"cut": [], "close": [b"first"]}.get(end, [b"first", b"second"])


@pytest.mark.parametrize("call", ["write", "sync_data"])
def test_a_failure_in_the_thread_is_told_by_the_next_call(path: str, call: str) -> None:
    journal = Journal.create(RealFiles(), path, "test", 3)
    journal.close()
    journal = Journal.open(FailingFiles(call), path, "test", lambda _content: None)
    journal.append(b"lost")
    bring = journal.begin_sync()
    assert bring is not None
    bring()
    with pytest.raises(JournalFailed, match="No space left"):
        journal.finish_sync()
    for act in (journal.sync, journal.begin_sync, lambda: journal.append(b"more")):
        with pytest.raises(JournalFailed, match="failed before"):
            act()
    journal.close()
