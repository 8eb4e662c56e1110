"""What is put is found again under its hash, from a stream or from memory; what is damaged is set aside."""

from __future__ import annotations

import io
import os
import stat
import struct
import time
import tracemalloc
from array import array
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from stores_for_tests import files_in, name_of

from weftos import limits
from weftos.artifacts import HEADER_BYTES, ArtifactInfo, ArtifactRef, ArtifactStore
from weftos.errors import ArtifactCorrupted, ArtifactNotFound, ArtifactStorageFailed, InvalidRequest, error_for_code

TEXT = "text/plain"


@pytest.fixture
def store(tmp_path):
    before = set(os.listdir("/proc/self/fd"))
    yield ArtifactStore(tmp_path / "artifacts")
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return ArtifactStore(tmp_path_factory.mktemp("shared") / "artifacts")


def path_of(store, digest):
    return os.path.join(store.directory, digest[:2], digest)


class Slow:
    """A source that gives as many bytes as it likes."""

    def __init__(self, pieces):
        self.pieces = list(pieces)

    def read(self, count, /):
        return self.pieces.pop(0) if self.pieces else b""


# --- putting and getting ----------------------------------------------------------------------------------------------


@given(
    st.lists(st.binary(min_size=1, max_size=2000), max_size=5), st.sampled_from(["memory", "file", "pieces", "view"])
)
def test_what_is_put_is_found(shared, pieces, way):
    content = b"".join(pieces)
    source = {
        "memory": lambda: content,
        "view": lambda: memoryview(bytearray(content)),
        "file": lambda: io.BytesIO(content),
        "pieces": lambda: Slow(pieces),
    }[way]()
    ref = shared.put(source, TEXT)
    assert ref == ArtifactRef(name_of(content), len(content), TEXT)
    assert shared.get(ref.hash) == content
    with shared.open_stream(ref.hash) as stream:
        assert (stream.size, stream.content_type) == (len(content), TEXT)
        assert b"".join(iter(lambda: stream.read(7), b"")) == content
        assert stream.read(7) == b""
    with shared.open_stream(ref.hash) as stream:
        assert stream.read(0) == b""
        assert stream.read() == content


def test_a_file_is_what_the_format_page_says(tmp_path):
    store = ArtifactStore(tmp_path / "a", clock_ns=lambda: 1_700_000_000_123_456_789)
    ref = store.put(b"hello", "application/json; charset=utf-8")
    data = Path(path_of(store, ref.hash)).read_bytes()
    kind = b"application/json; charset=utf-8"
    fields = b"exo/artifact/v1\n" + struct.pack("<QH", 1_700_000_000_123_456_789, len(kind)) + kind.ljust(198, b"\0")
    assert data == fields + blake3(fields).digest() + b"hello"
    assert len(data) == HEADER_BYTES + 5
    assert stat.S_IMODE(os.stat(path_of(store, ref.hash)).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(store.directory).st_mode) == 0o700
    assert files_in(tmp_path) == [f"a/{ref.hash[:2]}/{ref.hash}"]


def test_the_same_content_is_kept_once_with_its_first_type(tmp_path):
    times = iter(range(10**18, 10**18 + 100))
    store = ArtifactStore(tmp_path / "a", clock_ns=lambda: next(times))
    first = store.put(b"x", TEXT)
    inode = os.stat(path_of(store, first.hash)).st_ino
    for source in (b"x", io.BytesIO(b"x")):
        assert store.put(source, "text/html") == ArtifactRef(first.hash, 1, "text/html")
    assert os.stat(path_of(store, first.hash)).st_ino == inode
    assert store.stat(first.hash) == ArtifactInfo(first.hash, 1, TEXT, 10**18)
    assert len(files_in(tmp_path)) == 1


def test_it_survives_a_restart_and_lists_in_order(store):
    refs = [store.put(b"%d" % number, f"x/n{number}") for number in range(20)]
    again = ArtifactStore(store.directory)
    assert [(info.hash, info.size, info.content_type) for info in again.list()] == sorted(
        (ref.hash, ref.size, ref.content_type) for ref in refs
    )
    assert again.list() == [again.stat(info.hash) for info in store.list()]
    assert abs(again.list()[0].stored_ns - time.time_ns()) < 60e9
    for number, ref in enumerate(refs):
        assert again.get(ref.hash) == b"%d" % number


def test_memory_stays_flat(store):
    class Endless:
        left = 64

        def read(self, count, /):
            self.left -= 1
            return bytes([self.left]) * count if self.left >= 0 else b""

    tracemalloc.start()
    try:
        ref = store.put(Endless(), "application/octet-stream")
        with store.open_stream(ref.hash) as stream:
            assert sum(map(len, stream)) == ref.size == 64 * limits.ARTIFACT_CHUNK_BYTES
        assert tracemalloc.get_traced_memory()[1] < 8 * limits.ARTIFACT_CHUNK_BYTES
    finally:
        tracemalloc.stop()


# --- names and types --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../../etc/passwd",
        "a" * 63,
        "a" * 65,
        "A" * 64,
        "g" * 64,
        "a" * 64 + "\n",
        "../" + "a" * 61,
        b"a" * 64,
        None,
        "\u0661" * 64,
    ],
)
def test_only_hashes_are_names(store, name):
    for act in (store.get, store.open_stream, store.stat, lambda n: store.collect_garbage({n})):
        with pytest.raises(InvalidRequest, match="64 lower-case hex digits"):
            act(name)


def test_what_is_not_there_is_not_found(store):
    for act in (store.get, store.open_stream, store.stat):
        with pytest.raises(ArtifactNotFound):
            act("ab" * 32)
    assert type(error_for_code("artifact.not_found", "x")) is ArtifactNotFound


@pytest.mark.parametrize("kind", [TEXT, "application/vnd.a+json", 'text/x; a="b c"; d=e', "a/b;c=d", "a/" + "b" * 158])
def test_types_that_are_taken(store, kind):
    assert store.stat(store.put(kind.encode(), kind).hash).content_type == kind


@pytest.mark.parametrize(
    "kind", ["", "text", "/", "a/", "a b/c", "a/b\n", "a/b; c", "a/b" * 100, "a/b\0", "ä/b", None, b"a/b"]
)
def test_types_that_are_refused(store, kind):
    with pytest.raises(InvalidRequest, match="content type"):
        store.put(b"x", kind)
    assert store.list() == []


@pytest.mark.parametrize("source", [io.StringIO("text"), Slow([b"x", None]), Slow([b"x", 7]), memoryview(b"abcd")[::2]])
def test_sources_that_are_refused(store, source):
    with pytest.raises(InvalidRequest):
        store.put(source, TEXT)
    assert files_in(store_path(store)) == []


def store_path(store):
    return Path(store.directory)


def test_memory_of_other_items_is_taken_as_bytes(store):
    numbers = array("d", [1.0, 2.0])
    assert store.get(store.put(memoryview(numbers), TEXT).hash) == numbers.tobytes()


@pytest.mark.parametrize(
    ("error", "expected"), [(RuntimeError("mine"), RuntimeError), (OSError(5, "broken"), ArtifactStorageFailed)]
)
def test_a_source_that_fails_leaves_nothing(store, error, expected):
    class Failing:
        first = True

        def read(self, count, /):
            if self.first:
                self.first = False
                return b"x" * 1000
            raise error

    with pytest.raises(expected):
        store.put(Failing(), TEXT)
    assert files_in(store_path(store)) == []


# --- damage -----------------------------------------------------------------------------------------------------------


@given(st.data())
def test_every_changed_bit_is_found_and_set_aside(shared, data):
    content = data.draw(st.binary(max_size=50))
    ref = shared.put(content, TEXT)
    path = path_of(shared, ref.hash)
    whole = Path(path).read_bytes()
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(whole) * 8 - 1))
        bad = (int.from_bytes(whole, "big") ^ 1 << at).to_bytes(len(whole), "big")
    else:
        bad = data.draw(st.sampled_from([whole[: data.draw(st.integers(0, len(whole) - 1))], whole + b"\0"]))
    with open(path, "wb") as file:
        file.write(bad)
    act = data.draw(st.sampled_from([shared.get, shared.open_stream]))
    with pytest.raises(ArtifactCorrupted) as caught:
        act(ref.hash)
    assert Path(caught.value.path).read_bytes() == bad
    assert caught.value.exit_code == 5
    with pytest.raises(ArtifactNotFound):
        shared.get(ref.hash)
    assert ref.hash not in {info.hash for info in shared.list()}
    assert shared.put(io.BytesIO(content), TEXT) == ref
    assert shared.get(ref.hash) == content
    assert os.path.exists(caught.value.path)
    os.unlink(caught.value.path)


@pytest.mark.parametrize("how", [lambda c: c, io.BytesIO])
def test_putting_again_mends_what_is_damaged(store, how):
    ref = store.put(b"content", TEXT)
    with open(path_of(store, ref.hash), "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"X")
    store.put(how(b"content"), TEXT)
    assert store.get(ref.hash) == b"content"
    (evidence,) = [name for name in files_in(store_path(store)) if ".damaged-" in name]
    assert (store_path(store) / evidence).read_bytes().endswith(b"contenX")
    assert store.collect_garbage(set(), 0, time.time() + 10).removed == [ref.hash]
    assert files_in(store_path(store)) == [evidence]


@pytest.mark.parametrize("make", [lambda p: os.symlink("/etc/passwd", p), os.mkfifo, os.mkdir])
def test_what_is_no_file_is_not_read(store, make):
    ref = store.put(b"x", TEXT)
    os.unlink(path_of(store, ref.hash))
    make(path_of(store, ref.hash))
    assert store.list() == [ArtifactInfo(ref.hash, 0, None, 0)]
    with pytest.raises(ArtifactCorrupted, match=r"symbolic link|regular file"):
        store.get(ref.hash)
    store.put(b"x", TEXT)
    assert store.get(ref.hash) == b"x"


def test_a_damaged_header_shows_in_the_list(store):
    ref = store.put(b"12345", TEXT)
    with open(path_of(store, ref.hash), "r+b") as file:
        file.seek(30)
        file.write(b"X")
    assert store.list() == [ArtifactInfo(ref.hash, 5, None, 0)]
    with pytest.raises(ArtifactCorrupted, match="header is damaged"):
        store.stat(ref.hash)
    assert store.list() == []


def test_a_change_after_opening_is_told_before_the_end(store):
    content = bytes(3000)
    ref = store.put(content, TEXT)
    for change in (b"X", None):
        with store.open_stream(ref.hash) as stream:
            assert stream.read(1000) == bytes(1000)
            if change:
                with open(path_of(store, ref.hash), "r+b") as file:
                    file.seek(HEADER_BYTES + 2000)
                    file.write(change)
            else:
                os.truncate(path_of(store, ref.hash), HEADER_BYTES + 2000)
            with pytest.raises(ArtifactCorrupted):
                stream.read()
        store.put(content, TEXT)


def test_an_open_stream_outlives_its_removal(store):
    ref = store.put(b"x" * 5000, TEXT)
    with store.open_stream(ref.hash) as stream:
        store.collect_garbage(set(), 0, time.time() + 10)
        assert stream.read() == b"x" * 5000


# --- garbage and quota ------------------------------------------------------------------------------------------------


def test_garbage_is_what_nobody_names_and_is_old(tmp_path):
    now = time.time()
    clock = [now]
    store = ArtifactStore(tmp_path / "a", clock_ns=lambda: int(clock[0] * 1e9))
    named, old, again, young = (store.put(text, TEXT) for text in (b"named", b"old", b"again", b"young"))
    clock[0] = now + 100
    store.put(io.BytesIO(b"again"), TEXT)
    store.put(b"young", TEXT)
    assert store.collect_garbage(set(), 200, now + 100).removed == []
    result = store.collect_garbage({named.hash}, 50, now + 101)
    assert (result.removed, result.young, result.swept) == ([old.hash], 2, 0)
    assert result.freed_bytes == HEADER_BYTES + 3
    assert {info.hash for info in store.list()} == {named.hash, again.hash, young.hash}
    assert sorted(store.collect_garbage({named.hash}, 50, now + 151).removed) == sorted([again.hash, young.hash])
    assert store.collect_garbage({named.hash}, 0).removed == []


@pytest.mark.parametrize("period", [-1, float("nan"), float("inf")])
def test_a_period_must_be_one(store, period):
    with pytest.raises(InvalidRequest, match="grace period"):
        store.collect_garbage(set(), period)


def test_a_mistaken_reference_removes_nothing(store):
    ref = store.put(b"x", TEXT)
    with pytest.raises(InvalidRequest):
        store.collect_garbage({ref.hash.upper()}, 0, time.time() + 10)
    assert store.get(ref.hash) == b"x"


def test_unfinished_files_are_swept_only_without_a_writer(tmp_path):
    store = ArtifactStore(tmp_path / "a")
    left = tmp_path / "a" / "put-0123456789abcdef.tmp"
    foreign = tmp_path / "a" / "notes.txt"

    class Meanwhile:
        done = False

        def read(self, count, /):
            if self.done:
                return b""
            self.done = True
            left.write_bytes(b"half")
            foreign.write_bytes(b"not ours")
            assert store.collect_garbage(set(), 0, time.time() + 10).swept == 1
            ArtifactStore(tmp_path / "a")
            return b"content"

    ref = store.put(Meanwhile(), TEXT)
    assert store.get(ref.hash) == b"content"
    assert not left.exists()
    assert foreign.exists()
    left.write_bytes(b"half")
    ArtifactStore(tmp_path / "a")
    assert not left.exists()


def test_the_quota_holds(tmp_path):
    room = 3 * (HEADER_BYTES + 1000)
    store = ArtifactStore(tmp_path / "a", quota_bytes=room)
    for number in range(3):
        store.put(bytes([number]) * 1000, TEXT)
    for source in (b"x", io.BytesIO(b"x"), io.BytesIO(bytes(5000))):
        with pytest.raises(ArtifactStorageFailed, match="no room"):
            store.put(source, TEXT)
    assert len(files_in(tmp_path)) == 3
    store.put(bytes(1000), TEXT)  # it is there already
    other = ArtifactStore(tmp_path / "a", quota_bytes=room)
    other.collect_garbage({name_of(bytes(1000))}, 0, time.time() + 10)
    store.put(b"y" * (room - 2 * HEADER_BYTES - 1000), TEXT)  # what others removed is noticed
    with pytest.raises(ArtifactStorageFailed, match="no room"):
        other.put(b"z", TEXT)
    ArtifactStore(tmp_path / "a", quota_bytes=0).put(b"z", TEXT)


def test_a_stream_is_measured_while_it_flows(tmp_path):
    """A source without an end meets the quota, and not the end of the disk."""

    class Endless:
        def read(self, count, /):
            return bytes(count)

    store = ArtifactStore(tmp_path / "a", quota_bytes=5 * limits.ARTIFACT_CHUNK_BYTES)
    with pytest.raises(ArtifactStorageFailed, match="no room"):
        store.put(Endless(), TEXT)
    assert files_in(tmp_path) == []


def test_a_store_that_cannot_be(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "none" / "a", tmp_path / "file"):
        with pytest.raises(ArtifactStorageFailed):
            ArtifactStore(path)
