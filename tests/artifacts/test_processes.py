"""Several processes use one store; one of them is killed in the middle of a put."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from stores_for_tests import files_in, name_of

from weftos.artifacts import ArtifactStore
from weftos.errors import ArtifactNotFound

TEXT = "text/plain"

PUTTER = """
import io, sys
from weftos.artifacts import ArtifactStore
store = ArtifactStore(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    content = b"%d" % number * (number * 37 % 500)
    ref = store.put(io.BytesIO(content) if number % 2 else content, "text/plain")
    assert store.get(ref.hash) == content
print("done", flush=True)
"""

COLLECTOR = """
import sys
from weftos.artifacts import ArtifactStore
store = ArtifactStore(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
while True:
    store.collect_garbage(set(), float(sys.argv[2]))
"""

HALF = """
import os, sys
from weftos.artifacts import ArtifactStore
class Slow:
    def read(self, count):
        os.write(1, b".")
        return os.read(0, count)
ArtifactStore(sys.argv[1]).put(Slow(), "text/plain")
os.write(1, b"!")
"""


def start(program, *arguments):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def end(child):
    """Wait for a child to end by itself."""
    out, _ = child.communicate(timeout=120)
    assert child.returncode == 0
    return out


def test_two_processes_put_the_same_at_once(tmp_path):
    count = 150
    children = [start(PUTTER, tmp_path / "a", count) for _ in range(2)]
    for child in children:
        assert child.stdout.readline() == b"ready\n"
    for child in children:
        child.stdin.write(b"go\n")
        child.stdin.flush()
    for child in children:
        assert end(child) == b"done\n"
    contents = {b"%d" % number * (number * 37 % 500) for number in range(count)}
    store = ArtifactStore(tmp_path / "a")
    assert {store.get(info.hash) for info in store.list()} == contents
    assert len(files_in(tmp_path / "a")) == len(contents)


def test_collecting_beside_putting_takes_nothing_that_is_young(tmp_path):
    """Old content is put again while it is collected: each put either finds it and keeps it, or makes it anew."""
    old = time.time_ns() - 7200 * 10**9
    before = ArtifactStore(tmp_path / "a", clock_ns=lambda: old)
    contents = [b"%d" % number for number in range(400)]
    for content in contents:
        before.put(content, TEXT)
    child = start(COLLECTOR, tmp_path / "a", 3600)
    try:
        assert child.stdout.readline() == b"ready\n"
        store = ArtifactStore(tmp_path / "a")
        child.stdin.write(b"go\n")
        child.stdin.flush()
        # From the other end than the collector, so that they meet.
        kept = sorted(map(name_of, contents), reverse=True)
        by_name = {name_of(content): content for content in contents}
        for digest in kept:
            assert store.put(by_name[digest], TEXT).hash == digest
            assert store.get(digest) == by_name[digest]
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
    assert {info.hash for info in store.list()} == set(kept)


@pytest.mark.parametrize("blocks", [1, 3])
def test_killed_in_the_middle_of_a_put(tmp_path, blocks):
    child = start(HALF, tmp_path / "a")
    content = b"x" * 5000
    for _ in range(blocks):
        assert os.read(child.stdout.fileno(), 1) == b"."
        os.write(child.stdin.fileno(), content)
    assert os.read(child.stdout.fileno(), 1) == b"."
    store = ArtifactStore(tmp_path / "a")
    (unfinished,) = files_in(tmp_path / "a")
    assert unfinished.endswith(".tmp")
    assert os.path.getsize(tmp_path / "a" / unfinished) > 5000 * blocks
    assert store.collect_garbage(set(), 0, time.time() + 10).swept == 0  # its writer lives
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert store.list() == []
    with pytest.raises(ArtifactNotFound):
        store.get(name_of(content * blocks))
    assert store.collect_garbage(set()).swept == 1
    assert files_in(tmp_path / "a") == []
    child = start(HALF, tmp_path / "a")
    assert os.read(child.stdout.fileno(), 1) == b"."
    assert child.communicate(content * blocks, timeout=60)[0].endswith(b"!")
    assert store.get(name_of(content * blocks)) == content * blocks
