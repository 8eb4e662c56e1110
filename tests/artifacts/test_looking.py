"""A store read from its folder alone: the same as the store says, and nothing is changed by looking."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from stores_for_tests import files_in, name_of

from weftos.artifacts import ArtifactRef, ArtifactStore
from weftos.artifacts.form import ref_from
from weftos.artifacts.looking import list_artifacts, open_artifact, open_file, set_aside_files
from weftos.artifacts.reading import ArtifactFile
from weftos.errors import ArtifactCorrupted, ArtifactNotFound, ArtifactStorageFailed, InvalidRequest

TEXT = "text/plain"


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "a")


def test_the_list_is_that_of_the_store_from_anywhere(store):
    for number in range(40):
        store.put(b"%d" % number, TEXT)
    everything = store.list()
    assert list(list_artifacts(store.directory)) == everything
    for index, info in enumerate(everything):
        assert list(list_artifacts(store.directory, info.hash)) == everything[index + 1 :]
        assert next(list_artifacts(store.directory, info.hash[:10])) == info
    assert list(list_artifacts(store.directory, "f" * 64)) == []


def test_looking_at_nothing_makes_nothing(tmp_path):
    assert list(list_artifacts(tmp_path / "none")) == []
    assert set_aside_files(tmp_path / "none", "0" * 64) == []
    with pytest.raises(ArtifactNotFound):
        open_artifact(tmp_path / "none", "0" * 64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "x", "../../../etc/passwd", "A" * 64, "0" * 63])
def test_names_that_are_no_hash_are_refused(store, name):
    for look in (open_artifact, open_file, set_aside_files):
        with pytest.raises(InvalidRequest):
            look(store.directory, name)


@pytest.mark.parametrize("damage", ["header", "content", "link", "folder", "empty"])
def test_damage_is_told_and_left_where_it_is(store, damage):
    ref = store.put(b"content", TEXT)
    path = Path(store.directory, ref.hash[:2], ref.hash)
    data = bytearray(path.read_bytes())
    path.unlink()
    if damage == "link":
        path.symlink_to("/etc/passwd")
    elif damage == "folder":
        path.mkdir()
    else:
        data[20 if damage == "header" else -1] ^= 1
        path.write_bytes(b"" if damage == "empty" else data)
    before = files_in(Path(store.directory))
    with pytest.raises(ArtifactCorrupted) as told:
        open_artifact(store.directory, ref.hash)
    assert told.value.path == str(path)
    assert files_in(Path(store.directory)) == before
    shown = list(list_artifacts(store.directory))
    assert [info.hash for info in shown] == [ref.hash]
    assert (shown[0].content_type is None) == (damage != "content")


def test_files_that_were_set_aside_are_found(store):
    ref = store.put(b"content", TEXT)
    path = Path(store.directory, ref.hash[:2], ref.hash)
    path.write_bytes(b"damaged")
    with pytest.raises(ArtifactCorrupted) as told:
        store.get(ref.hash)
    assert set_aside_files(store.directory, ref.hash) == [told.value.path]


def test_an_open_file_can_be_handed_over(store):
    ref = store.put(b"content", TEXT)
    with store.open_checked(ref.hash) as file:
        fd = os.dup(file.fileno())
    with ArtifactFile.of_descriptor(fd, ref.hash) as handed:
        assert handed.read_content() == b"content"
        assert handed.header()[0] == TEXT
    other = ArtifactFile.of_descriptor(os.open(file.path, os.O_RDONLY), name_of(b"other"))
    with other as wrong, pytest.raises(ArtifactCorrupted):
        wrong.read_content()
    reading, writing = os.pipe()
    os.close(writing)
    with pytest.raises(ArtifactCorrupted, match="regular file"):
        ArtifactFile.of_descriptor(reading, ref.hash)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reading)


@pytest.mark.parametrize("told_first", [True, False])
def test_damage_is_told_before_the_file_is_set_aside(tmp_path, told_first):
    told = []

    def tell(damage):
        assert os.path.exists(damage.path), "it is still under its name"
        told.append(damage)
        if not told_first:
            raise ArtifactStorageFailed("it cannot be told")

    store = ArtifactStore(tmp_path / "a", on_damage=tell)
    ref = store.put(b"content", TEXT)
    path = Path(store.directory, ref.hash[:2], ref.hash)
    for use in (store.get, store.open_stream, store.open_checked, store.renew, lambda _: store.put(b"content", TEXT)):
        path.write_bytes(b"x" * 300)
        with pytest.raises((ArtifactCorrupted, ArtifactNotFound) if told_first else ArtifactStorageFailed):
            use(ref.hash)
            raise ArtifactNotFound  # a put has mended it
        assert len(told) == 1
        assert path.exists() == (not told_first or use.__name__ == "<lambda>")
        told.clear()


def test_renewing_makes_young_and_tells_what_is_there(store):
    with pytest.raises(ArtifactNotFound):
        store.renew("0" * 64)
    ref = store.put(b"content", TEXT)
    path = Path(store.directory, ref.hash[:2], ref.hash)
    os.utime(path, ns=(1, 1))
    assert store.find_loose(set(), 10**9).found == [(ref.hash, path.stat().st_size)]
    info = store.renew(ref.hash)
    assert (info.hash, info.size, info.content_type) == (ref.hash, 7, TEXT)
    loose = store.find_loose(set(), 10**9)
    assert (loose.found, loose.young, loose.held) == ([], 1, 0)
    assert store.remove([ref.hash, "0" * 64], 10**9).young == 1
    assert store.size_of(ref.hash) == 7
    assert store.remove([ref.hash], 10**20).hashes == [ref.hash]
    assert store.size_of(ref.hash) is None


@pytest.mark.parametrize(
    "value",
    [None, 1, "x", [], {}, {"hash": "0" * 64, "size": 1}, {"hash": "0" * 64, "size": 1.0, "content_type": TEXT}],
)
def test_what_is_no_reference_is_refused(value):
    with pytest.raises(InvalidRequest):
        ref_from(value)


def test_a_reference_is_read_as_it_was_written():
    value = {"hash": "0" * 64, "size": 0, "content_type": TEXT}
    assert ref_from(value) == ArtifactRef("0" * 64, 0, TEXT)
