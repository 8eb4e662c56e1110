"""Every changing call fails once, in every way; and the world ends at every one of them."""

from __future__ import annotations

import errno
import os
import shutil

import pytest
from dying_files import UnsyncedFiles
from logs_for_tests import Crash, FaultyDisk, note, open_log

from weftos import chain, limits
from weftos.errors import ChainError, StorageFailed

SMALL = limits.CHAIN_SEGMENT_MIN_BYTES


def event(n):
    return chain.NewEvent("a", "app.note", {"n": n, "x": "x" * 150}, producer="p", position=n)


def life(directory, disk, acked, signer=None):
    """Open, append in groups over several segments, sign, close; ``acked`` grows only by what was committed."""
    writer = open_log(directory, fs=disk, segment_bytes=SMALL, signer=signer)
    try:
        start = max(acked, default=-1) + 1
        for group in range(3):
            numbers = range(start + group * 7, start + group * 7 + 7)
            acks = writer.append_many([event(n) for n in numbers])
            writer.commit()
            acked.update(zip(numbers, acks, strict=True))
            if group == 1:
                writer.checkpoint()
        writer.close()
    finally:
        writer.abandon()


def notes(directory):
    return {r.payload["n"]: r for r in chain.read(directory) if r.kind == "app.note"}


def check(directory, acked, signer=None):
    """All that was committed is there, once; the log can be opened, verified and continued."""
    # Nothing ends while it is looked at, so nobody has to wait for the disk.
    with open_log(directory, fs=UnsyncedFiles(), segment_bytes=SMALL, signer=signer) as writer:
        submitted = range(max(acked, default=-1) + 8)
        for n in submitted:
            ack = writer.append(event(n))
            assert ack == acked.get(n, ack)
    found = [r.payload["n"] for r in chain.read(directory) if r.kind == "app.note"]
    assert sorted(found) == sorted(set(found))
    assert set(submitted) <= set(found)
    held = notes(directory)
    for n, ack in acked.items():
        assert held[n].hash == ack.hash
    report = chain.verify(directory, keys=signer.public if signer else None)
    assert report.valid, report.errors
    assert report.warnings == []
    reports = [r for r in chain.read(directory) if r.kind == "chain.recovered"]
    reported = [name for r in reports for name in r.payload["files"]]
    assert not [name for name in os.listdir(directory) if name.endswith(".tmp")]
    aside = {name for name in os.listdir(directory) if name.startswith("torn-")}
    assert sorted(aside) == sorted(reported)
    for r in reports:
        assert r.payload["lost_bytes"] == sum(os.path.getsize(directory / name) for name in r.payload["files"])


def calls_of_a_life(tmp_path, signer, acked=None):
    disk = FaultyDisk()
    life(tmp_path / "rehearsal" / "chain", disk, {} if acked is None else acked, signer)
    return disk.names


@pytest.fixture
def signer(tmp_path):
    (tmp_path / "rehearsal").mkdir()
    chain.Signer.open(tmp_path / "keys")
    return for_home(tmp_path, tmp_path / "rehearsal")


def for_home(tmp_path, folder):
    """The same keys for another log: a high-water mark is of one log."""
    shutil.copytree(tmp_path / "keys", folder / "keys")
    return chain.Signer.open(folder / "keys")


@pytest.mark.parametrize("number", [errno.ENOSPC, pytest.param(errno.EIO, marks=pytest.mark.slow)])
def test_each_call_fails_once(tmp_path, signer, number):
    names = calls_of_a_life(tmp_path, signer)
    assert {"make_dir", "create", "write", "sync_data", "sync_file", "sync_dir", "rename"} <= set(names)
    assert len(names) > 25
    for at, name in enumerate(names):
        home = tmp_path / f"{at}-{name}" / "chain"
        home.parent.mkdir()
        own = for_home(tmp_path, home.parent)
        acked: dict = {}
        with pytest.raises(StorageFailed) as caught:
            life(home, FaultyDisk(at, OSError(number, os.strerror(number))), acked, own)
        assert os.strerror(number) in str(caught.value)
        check(home, acked, own)


@pytest.mark.parametrize("power", [None, *(pytest.param(one, marks=pytest.mark.slow) for one in (0.0, 0.5))])
def test_the_world_ends_at_each_call(tmp_path, signer, power):
    names = calls_of_a_life(tmp_path, signer)
    for at, name in enumerate(names):
        home = tmp_path / f"{at}-{name}" / "chain"
        home.parent.mkdir()
        own = for_home(tmp_path, home.parent)
        acked: dict = {}
        disk = FaultyDisk(at, Crash())
        with pytest.raises(Crash):
            life(home, disk, acked, own)
        disk.shut()
        if power is not None:
            disk.lose_power(power)
        check(home, acked, own)


@pytest.mark.slow
def test_power_is_lost_after_a_restart_that_followed_a_kill(tmp_path, signer):
    """The restarted writer must not build on names that its killed predecessor did not bring onto the disk."""
    for at, name in enumerate(calls_of_a_life(tmp_path, signer)):
        home = tmp_path / f"{at}-{name}" / "chain"
        home.parent.mkdir()
        own = for_home(tmp_path, home.parent)
        acked: dict = {}
        disk = FaultyDisk(at, Crash())
        with pytest.raises(Crash):
            life(home, disk, acked, own)
        disk.shut()
        disk.at = -1
        # No rolling and no signing, which bring names onto the disk by themselves: the first life's file goes on.
        writer = open_log(home, fs=disk, signer=own)
        for n in range(max(acked, default=-1) + 1, max(acked, default=-1) + 4):
            ack = writer.append(event(n))
            writer.commit()
            acked[n] = ack
        writer.abandon()
        disk.lose_power(0.0)
        assert set(acked) <= set(notes(home))
        check(home, acked, own)


@pytest.mark.parametrize("power", [None, *(pytest.param(one, marks=pytest.mark.slow) for one in (0.0, 0.5))])
def test_the_world_ends_at_each_call_of_a_recovery(tmp_path, signer, power):
    def torn(home):
        home.parent.mkdir()
        acked: dict = {}
        life(home, FaultyDisk(), acked)
        with open(max(home.glob("*.log")), "ab") as file:
            file.write(b"half a frame")
        seq = sum(1 for _ in chain.read(home))
        return acked, seq

    acked, seq = torn(tmp_path / "r" / "chain")
    shutil.copytree(tmp_path / "r" / "chain", tmp_path / "model")
    disk = FaultyDisk()
    life(tmp_path / "r" / "chain", disk, dict(acked), for_home(tmp_path, tmp_path / "r"))
    assert "truncate" in disk.names
    for at, name in enumerate(disk.names):
        home = tmp_path / f"{at}-{name}" / "chain"
        shutil.copytree(tmp_path / "model", home)
        own = for_home(tmp_path, home.parent)
        known = dict(acked)
        disk = FaultyDisk(at, Crash())
        with pytest.raises(Crash):
            life(home, disk, known, own)
        disk.shut()
        if power is not None:
            disk.lose_power(power)
        check(home, known, own)
        (files,) = [r.payload["files"] for r in chain.read(home) if r.kind == "chain.recovered" and r.seq == seq]
        assert (home / files[0]).read_bytes() == b"half a frame"


def test_a_failed_writer_stays_failed(home):
    class NoSync(chain.RealFiles):
        broken = False

        def sync_data(self, fd):
            if self.broken:
                raise OSError(errno.EIO, "broken")
            super().sync_data(fd)

    disk = NoSync()
    writer = open_log(home, fs=disk)
    first = writer.append(note(1))
    writer.commit()
    disk.broken = True
    writer.append(note(2))
    with pytest.raises(StorageFailed, match="syncing failed: broken"):
        writer.commit()
    disk.broken = False
    for act in (
        lambda: writer.append(note(3)),
        writer.commit,
        writer.checkpoint,
        lambda: writer.append_many([note(4)]),
    ):
        with pytest.raises(StorageFailed, match="syncing failed"):
            act()
    assert "broken" in writer.statistics().failed
    with pytest.raises(StorageFailed):
        writer.close()
    assert [r.seq for r in chain.read(home)][:2] == [0, first.seq]
    open_log(home).close()


def test_a_full_disk_for_real(tmp_path):
    """A file-size limit is the nearest thing to a full disk that needs no mount."""
    import resource
    import signal

    home = tmp_path / "chain"
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            writer = open_log(home)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
            n = 0
            while True:
                writer.append(note(n, producer="p", position=n))
                writer.commit()
                n += 1
                os.write(writing, b".")
        except StorageFailed:
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    acked = 0
    while data := os.read(reading, 65536):
        acked += len(data)
    os.close(reading)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert acked > 20
    with open_log(home) as writer:
        assert writer.recovered_bytes > 0
    assert list(notes(home)) == list(range(acked))


def test_failure_to_open_leaves_the_lock_free(home):
    with pytest.raises(StorageFailed):
        open_log(home, fs=FaultyDisk(3, OSError(errno.ENOSPC, "full")))
    with pytest.raises(ChainError):
        open_log(home / "x" / "y")
    open_log(home).close()
