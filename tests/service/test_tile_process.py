"""The tiles made by a process of their own: the same files, and a service that starts anew when it is lost."""

import errno
import os
import signal
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weftos import chain
from weftos.chain.tiles.tile_store import TileStore
from weftos.disk.files import RealFiles
from weftos.errors import TileProcessLost
from weftos.service import protocol as p
from weftos.service.tile_process import TileProcess


def lock_in(folder) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)


def files_in(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


class Beside:
    """A process in a folder of its own, or around something else that makes tiles."""

    def __init__(self, folder, tiles=None):
        self.lock = lock_in(folder)
        self.tiles = TileProcess(tiles or TileStore(RealFiles(), str(folder)), self.lock)
        self.os_pid = self.tiles._os_pid

    def __enter__(self):
        return self.tiles

    def __exit__(self, *_):
        self.tiles.close()
        os.close(self.lock)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("extend"), st.integers(0, 700)),
        st.tuples(st.sampled_from(["publish", "forget", "keep"]), st.just(0)),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(STEPS, st.integers(0, 300))
def test_it_makes_the_same_files(tmp_path_factory, steps, before):
    here, there = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("there")
    model, copied = TileStore(RealFiles(), str(here)), TileStore(RealFiles(), str(there))
    for store in (model, copied):
        store.extend([b"before %d" % n for n in range(before)])
    with Beside(there, copied) as tiles:
        for at, (what, number) in enumerate(steps):
            for each in (model, tiles):
                if what == "extend":
                    each.extend([b"entry %d %d" % (at, n) for n in range(number)])
                elif what == "keep":
                    each.keep_edge(each.size)
                elif what == "forget":
                    each.forget_old()
            assert tiles.size == model.size
            if what == "publish":
                wanted = model.publish()()
                # Not every root that was ordered is waited for.
                if at % 3:
                    assert tiles.publish()() == wanted
                else:
                    tiles.publish()
        assert tiles.publish()() == model.publish()()
    assert files_in(there) == files_in(here)


def test_what_fails_there_is_told_here(tmp_path):
    class Full(TileStore):
        def extend(self, entries):
            raise OSError(errno.ENOSPC, "No space left on device")

    with Beside(tmp_path, Full(RealFiles(), str(tmp_path))) as tiles:
        tiles.extend([b"entry"])
        root = tiles.publish
        with pytest.raises(OSError, match="No space left") as caught:
            root()()
        assert caught.value.errno == errno.ENOSPC


def test_a_later_order_tells_as_well(tmp_path):
    class Full(TileStore):
        def extend(self, entries):
            raise OSError(errno.ENOSPC, "No space left on device")

    beside = Beside(tmp_path, Full(RealFiles(), str(tmp_path)))
    with beside as tiles:
        tiles.extend([b"entry"])
        os.waitid(os.P_PID, beside.os_pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(OSError, match="No space left"):
            tiles.extend([b"entry"])


def test_a_killed_process_is_noticed(tmp_path):
    beside = Beside(tmp_path)
    with beside as tiles:
        os.kill(beside.os_pid, signal.SIGSTOP)
        root = tiles.publish()
        os.kill(beside.os_pid, signal.SIGKILL)
        with pytest.raises(TileProcessLost):
            root()
        os.waitid(os.P_PID, beside.os_pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(TileProcessLost):
            tiles.extend([b"entry"])


def test_it_holds_the_lock_and_nothing_else_of_ours(tmp_path):
    reading, writing = os.pipe()
    with Beside(tmp_path) as tiles:
        tiles.publish()()
        os.close(writing)
        assert os.read(reading, 1) == b"", "the process has no copy of the writing end"
    os.close(reading)


def tile_process_of(kernel) -> psutil.Process:
    (found,) = psutil.Process(kernel.service.pid).children()
    return found


def test_the_service_starts_anew_without_it(kernel):
    kernel.start()
    client = kernel.agent(1).client()
    for n in range(300):
        client.submit(p.Append("app.n", {"n": n}, durable=False))
    assert client.append("app.n", {"n": 300}).seq > 300
    tile_process_of(kernel).kill()
    pending = [client.submit(p.Append("app.n", {"n": n})) for n in range(301, 400)]
    assert kernel.service.wait() == 1
    kernel.kill_service()  # what is left of it: our end of the socket
    kernel.start()
    for each in pending:
        each.result(20)
    assert kernel.stop_service() == 0
    numbers = [record.payload["n"] for record in chain.read(kernel.chain_dir) if record.kind == "app.n"]
    assert numbers == list(range(400)), "each of them is there, once and in order"
    assert chain.verify(kernel.chain_dir).valid


def test_it_ends_with_a_service_that_is_killed(kernel):
    kernel.start()
    beside = tile_process_of(kernel)
    kernel.kill_service()
    beside.wait(20)
    kernel.start()
    assert kernel.stop_service() == 0
