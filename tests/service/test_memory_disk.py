"""While the disk of the memory is slow: who wrote waits, and nobody else does."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from weftos import limits
from weftos.disk.files import RealFiles
from weftos.service import protocol as p
from weftos.service.ecc_protocol import EmbedMemory, Remembered
from weftos.service.memory import Memory

VECTORS = np.eye(4, dtype=np.float32)


class SlowDisk:
    """A disk that takes as long for the journal of the vectors as the test wants. ``hook`` is for the service."""

    def __init__(self, folder):
        self._slow = os.path.join(folder, "slow")
        #: One for each wait: who opens one again too early would meet the one before.
        self._pipes = [os.path.join(folder, f"pipe-{number}") for number in range(4)]
        for path in self._pipes:
            os.mkfifo(path)
        self._seen = iter(self._pipes)

    def hook(self) -> None:
        real, slow, pipes = RealFiles.sync_data, self._slow, iter(self._pipes)

        def sync_data(self: RealFiles, fd: int) -> None:
            if os.path.exists(slow) and "vectors/journal" in os.readlink(f"/proc/self/fd/{fd}"):
                with open(next(pipes), "rb") as file:
                    file.read()
            real(self, fd)

        RealFiles.sync_data = sync_data

    def make_slow(self) -> None:
        open(self._slow, "xb").close()

    def is_waited_for(self):
        """Return once the service waits for the disk; it does until what is returned is closed."""
        return open(next(self._seen), "wb")

    def make_quick(self) -> None:
        os.unlink(self._slow)


@pytest.fixture
def disk(tmp_path):
    return SlowDisk(tmp_path)


@pytest.fixture
def running(kernel, disk):
    assert isinstance(kernel.start(disk.hook), p.ServiceReady)
    return kernel


def clients(kernel, *pids):
    return [
        kernel.agent(pid, None, scope=f"agent{pid}", ring_bytes=256 * 1024, reply_bytes=256 * 1024).client()
        for pid in pids
    ]


def embed(number, **more):
    return EmbedMemory("shared/v", [f"id{number}"], VECTORS[number : number + 1].tobytes(), [{}], [b""], **more)


def settle(client):
    """Take what has come, after an answer that was asked for later by another."""
    client.on_ready()


def test_others_search_append_and_are_judged_while_one_waits_for_the_disk(running, disk):
    first, second, third = clients(running, 1, 2, 3)
    Memory(second).create("shared/v", 4)
    Memory(second).put(["there"], VECTORS[3:], space="shared/v")
    disk.make_slow()
    written = first.submit(embed(0))
    behind = first.submit(p.Ping())
    with disk.is_waited_for():
        # What is written is found at once; that it is on the disk is what is waited for.
        assert [one.id for one in Memory(second).search(VECTORS[:1], space="shared/v")[0]][:1] == ["id0"]
        assert second.append("app.note", {}).durable
        assert second.gate("ipc.send", {}) is not None
        later = third.submit(embed(1))
        # Answers of different rings have no order, so it is asked until it is there.
        while (ids := Memory(second).ids(space="shared/v")) == ["there", "id0"]:
            assert not later.done
        assert ids == ["there", "id0", "id1"]
        for client in (first, third):
            settle(client)
        assert [one.done for one in (written, behind, later)] == [False, False, False]
        assert running.ask(p.ChainHead())
    with disk.is_waited_for():
        # The first is answered, and the wait of the third began then.
        assert written.result() == Remembered(3, 1)
        assert isinstance(behind.result(), p.Pong)
        settle(third)
        assert not later.done
        disk.make_quick()
    assert later.result() == Remembered(4, 1)
    assert running.stop_service() == 0


def test_who_wrote_while_a_record_became_due_is_answered(running, disk):
    """The record over all changes brings them onto the disk as well, before the second wait has begun."""
    first, second, third = clients(running, 1, 2, 3)
    Memory(first).create("shared/v", 4)
    disk.make_slow()
    written = first.submit(embed(0))
    with disk.is_waited_for():
        due = time.monotonic() + limits.ECC_COMMIT_S
        later = second.submit(embed(1))
        while time.monotonic() < due or "id1" not in Memory(third).ids(space="shared/v"):
            pass
        disk.make_quick()
    assert isinstance(later.result(), Remembered)
    assert isinstance(written.result(), Remembered)
    assert running.stop_service() == 0


@pytest.mark.parametrize("ends", ["killed", "leaves", "stops"])
def test_an_end_while_one_waits_loses_nothing(running, disk, ends):
    first, second = clients(running, 1, 2)
    Memory(first).create("shared/v", 4)
    disk.make_slow()
    written = first.submit(embed(0))
    with disk.is_waited_for():
        later = second.submit(embed(1))
        if ends == "killed":
            running.kill_service()
        elif ends == "leaves":
            running.send(p.DetachClient(1))
        else:
            running.send(p.StopService())
        disk.make_quick()
    if ends == "stops":
        running.stop_service()
        running.channel.close()
    if ends != "leaves":
        assert isinstance(running.start(), p.ServiceReady)
    assert isinstance(written.result(), Remembered)
    assert isinstance(later.result(), Remembered)
    assert sorted(Memory(second).ids(space="shared/v")) == ["id0", "id1"]
    assert running.stop_service() == 0


def test_the_kernel_waits_for_the_disk_as_well(running, disk):
    (first,) = clients(running, 1)
    Memory(first).create("shared/v", 4)
    disk.make_slow()
    serial = running.post(embed(0))
    with disk.is_waited_for():
        disk.make_quick()
    assert running.result(serial) == Remembered(2, 1)


def test_a_disk_that_fails_while_others_wait_refuses_all_of_them(kernel, tmp_path):
    failing = tmp_path / "failing"

    def hook() -> None:
        real = RealFiles.sync_data

        def sync_data(self: RealFiles, fd: int) -> None:
            if failing.exists() and "vectors/journal" in os.readlink(f"/proc/self/fd/{fd}"):
                raise OSError(5, "Input/output error")
            real(self, fd)

        RealFiles.sync_data = sync_data

    assert isinstance(kernel.start(hook), p.ServiceReady)
    first, second = clients(kernel, 1, 2)
    Memory(first).create("shared/v", 4)
    failing.touch()
    waiting = [client.submit(embed(number)) for number, client in enumerate((first, second))]
    for one in waiting:
        with pytest.raises(Exception, match="Input/output error"):
            one.result()
    assert first.append("app.note", {}).durable
    failing.unlink()
    kernel.kill_service()
    assert isinstance(kernel.start(), p.ServiceReady)
    assert Memory(first).put(["again"], VECTORS[2:3], space="shared/v") > 1
