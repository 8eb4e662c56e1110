"""Every call fails once, in every way; and the world ends at every one of them."""

from __future__ import annotations

import errno
import io
import os
import resource
import signal
import time

import pytest
from stores_for_tests import Crash, FaultyFiles, files_in, name_of

from weftos.artifacts import HEADER_BYTES, ArtifactStore
from weftos.errors import ArtifactStorageFailed, WeftError

TEXT = "text/plain"
CONTENTS = [b"one" * 100, b"two" * 400, b"", b"one" * 100]


def life(directory, disk, stored, gone):
    """Open, put from memory and from a stream, put again, find damage, collect; what was promised is noted."""
    store = ArtifactStore(directory, disk)
    for number, content in enumerate(CONTENTS):
        source = io.BytesIO(content) if number % 2 else content
        stored.add(store.put(source, TEXT).hash)
    path = os.path.join(store.directory, name_of(CONTENTS[1])[:2], name_of(CONTENTS[1]))
    stored.discard(name_of(CONTENTS[1]))
    with open(path, "r+b") as file:
        file.seek(HEADER_BYTES)
        file.write(b"X")
    stored.add(store.put(io.BytesIO(CONTENTS[1]), TEXT).hash)
    stored.discard(name_of(b""))
    gone.update(
        store.collect_garbage({name_of(content) for content in CONTENTS if content}, 0, time.time() + 9).removed
    )


def check(directory, stored, gone):
    """What was promised is there, what is there is whole, nothing half is left; and everything can be done again."""
    directory.mkdir(exist_ok=True)
    damaged = {name for name in files_in(directory) if ".damaged-" in name}
    store = ArtifactStore(directory)
    for info in store.list():
        try:
            assert name_of(store.get(info.hash)) == info.hash
        except WeftError:
            # The one that was damaged on purpose and not yet found.
            assert info.hash == name_of(CONTENTS[1])
    names = {info.hash for info in store.list()}
    assert stored <= names
    assert not gone & names
    for content in CONTENTS:
        assert store.get(store.put(content, TEXT).hash) == content
    left = {os.path.basename(name) for name in files_in(directory)}
    assert {name for name in left if ".damaged-" not in name} == {name_of(content) for content in CONTENTS}
    for name in damaged:
        assert (directory / name).read_bytes()[HEADER_BYTES:].startswith(b"X")


def calls(tmp_path):
    disk = FaultyFiles()
    (tmp_path / "rehearsal").mkdir()
    life(tmp_path / "rehearsal" / "a", disk, set(), set())
    return disk.names


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_each_call_fails_once(tmp_path, number):
    names = calls(tmp_path)
    expected = {
        "make_dir",
        "create",
        "lock",
        "lock_open",
        "write",
        "sync_file",
        "sync_dir",
        "rename",
        "touch",
        "unlink",
    }
    assert set(names) == expected
    for at, name in enumerate(names):
        home = tmp_path / f"{at}-{name}" / "a"
        home.parent.mkdir()
        stored: set = set()
        gone: set = set()
        disk = FaultyFiles(at, OSError(number, os.strerror(number)))
        with pytest.raises(ArtifactStorageFailed, match=os.strerror(number)):
            life(home, disk, stored, gone)
        assert not disk.open
        # Only where removing itself failed may an unfinished file wait to be swept.
        if home.exists() and name != "unlink":
            assert not [left for left in files_in(home) if left.endswith(".tmp")]
        check(home, stored, gone)


@pytest.mark.parametrize("power", [False, True])
def test_the_world_ends_at_each_call(tmp_path, power):
    for at, name in enumerate(calls(tmp_path)):
        home = tmp_path / f"{at}-{name}" / "a"
        home.parent.mkdir()
        stored: set = set()
        disk = FaultyFiles(at, Crash())
        with pytest.raises(Crash):
            life(home, disk, stored, set())
        disk.shut()
        if power:
            disk.lose_power()
        check(home, stored, set())


def test_power_is_lost_after_a_restart_that_followed_a_kill(tmp_path):
    """What the second life promises must not rest on names that the first did not bring onto the disk."""
    for at, name in enumerate(calls(tmp_path)):
        home = tmp_path / f"{at}-{name}" / "a"
        home.parent.mkdir()
        disk = FaultyFiles(at, Crash())
        stored: set = set()
        with pytest.raises(Crash):
            life(home, disk, stored, set())
        disk.shut()
        disk.dead, disk.at = False, -1
        store = ArtifactStore(home, disk)
        for content in CONTENTS:
            stored.add(store.put(io.BytesIO(content), TEXT).hash)
        disk.lose_power()
        for content in CONTENTS:
            assert ArtifactStore(home).get(name_of(content)) == content
        check(home, stored, set())


def test_a_failed_sweep_and_a_failed_evidence_are_told(tmp_path):
    store = ArtifactStore(tmp_path / "a")
    ref = store.put(b"content", TEXT)
    path = tmp_path / "a" / ref.hash[:2] / ref.hash
    path.write_bytes(b"broken")
    disk = FaultyFiles()
    store = ArtifactStore(tmp_path / "a", disk)
    disk.at, disk.what = disk.calls + 1, OSError(errno.EROFS, "read-only")
    with pytest.raises(WeftError, match=r"cannot be set aside: .*read-only") as caught:
        store.get(ref.hash)
    assert caught.value.code == "artifact.corrupted"
    assert caught.value.path == str(path)
    assert path.read_bytes() == b"broken"


def test_a_full_disk_for_real(tmp_path):
    """A file-size limit is the nearest thing to a full disk that needs no mount."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            store = ArtifactStore(tmp_path / "a")
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
            store.put(bytes(10_000), TEXT)
            for source in (bytes(30_000), io.BytesIO(bytes(30_000))):
                try:
                    store.put(source, TEXT)
                except ArtifactStorageFailed:
                    code += 1
            store.put(b"more", TEXT)
            code -= 3
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    names = {os.path.basename(name) for name in files_in(tmp_path)}
    assert names == {name_of(bytes(10_000)), name_of(b"more")}
