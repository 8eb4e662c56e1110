"""What another process does between looking and acting, at the very moment before the lock is taken."""

from __future__ import annotations

import io
import time

import pytest

from weftos.artifacts import ArtifactStore, RealArtifactFiles
from weftos.errors import ArtifactCorrupted

TEXT = "text/plain"


class Interfering(RealArtifactFiles):
    """Does something once, before the lock with a given number."""

    def __init__(self):
        self.at, self.act = -1, lambda: None

    def lock(self, path, *, wait):
        self.at -= 1
        if self.at == -1:
            self.act()
        return super().lock(path, wait=wait)


@pytest.fixture
def two(tmp_path):
    disk = Interfering()
    return ArtifactStore(tmp_path / "a", disk), disk, ArtifactStore(tmp_path / "a")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("at", range(3))
def test_collected_while_it_is_put_again(two, stream, at):
    store, disk, other = two
    digest = other.put(b"x", TEXT).hash
    disk.act = lambda: other.collect_garbage(set(), 0, time.time() + 10)
    disk.at = at
    store.put(io.BytesIO(b"x") if stream else b"x", TEXT)
    if disk.at < 0 and at < 2:
        assert store.get(digest) == b"x"


@pytest.mark.parametrize("at", range(2))
def test_put_by_another_while_it_is_put(two, at):
    store, disk, other = two
    disk.act = lambda: other.put(b"x", "a/b")
    disk.at = at
    digest = store.put(io.BytesIO(b"x"), TEXT).hash
    assert disk.at < 0
    assert store.get(digest) == b"x"
    assert len(store.list()) == 1


def test_mended_while_it_is_found_damaged(two, tmp_path):
    store, disk, other = two
    digest = other.put(b"x", TEXT).hash
    path = tmp_path / "a" / digest[:2] / digest
    path.write_bytes(b"broken")
    disk.act = lambda: other.put(b"x", TEXT)
    disk.at = 0
    with pytest.raises(ArtifactCorrupted, match="gone") as caught:
        store.get(digest)
    assert caught.value.path == ""
    assert store.get(digest) == b"x"
    assert len([p for p in path.parent.iterdir() if ".damaged-" in p.name]) == 1


def test_collected_while_it_is_listed(two):
    store, _, other = two
    for number in range(20):
        other.put(b"%d" % number, TEXT)
    names = store._folder.names()
    next(names)
    other.collect_garbage(set(), 0, time.time() + 10)
    store._folder.names = lambda: iter([("ab" * 32, store._folder.path_of("ab" * 32))])
    assert store.list() == []
    assert store.collect_garbage(set(), 0, time.time() + 10).removed == []
