"""Tiles as files: what is written can be read, at any size, after any interruption."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weftos.chain.tiles.tile_paths import (
    TILE_WIDTH,
    bundle_entry,
    decode_bundle,
    encode_bundle,
    entries_path,
    parse_tile_path,
    tile_path,
)
from weftos.chain.tiles.tile_store import TileStore, read_tile
from weftos.disk.files import RealFiles
from weftos.errors import ChainCorrupted
from weftos.merkle.frontier import Frontier, leaf_hash


def entries_of(count: int) -> list[bytes]:
    return [b"entry %d" % n for n in range(count)]


def tree_of(entries: list[bytes]) -> Frontier:
    tree = Frontier()
    tree.extend(map(leaf_hash, entries))
    return tree


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("tile/0/000", (0, 0, 256)),
        ("tile/2/x001/x234/067.p/3", (2, 1234067, 3)),
        ("tile/entries/x001/000", (None, 1000, 256)),
        ("tile/63/999.p/255", (63, 999, 255)),
    ],
)
def test_paths_of_the_format(path, parts):
    level, index, width = parts
    assert parse_tile_path(path) == parts
    assert (entries_path(index, width) if level is None else tile_path(level, index, width)) == path


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/1", "tile/0/0000", "tile/00/000", "tile/64/000", "tile/0/x000/001", "tile/0/000.p/0",
        "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/../000", "/tile/0/000", "tile/0/000\n", "tile/entries/x00/000",
        "tile/-1/000", "",
    ],
)  # fmt: skip
def test_other_paths_are_refused(path):
    with pytest.raises(ChainCorrupted):
        parse_tile_path(path)


@given(st.one_of(st.none(), st.integers(0, 63)), st.integers(0, 10**12), st.integers(1, 256))
def test_paths_come_back(level, index, width):
    path = entries_path(index, width) if level is None else tile_path(level, index, width)
    assert parse_tile_path(path) == (level, index, width)


@given(st.lists(st.binary(max_size=300), max_size=20), st.data())
def test_bundles_come_back_and_nothing_else_does(entries, data):
    bundle = encode_bundle(entries)
    assert decode_bundle(bundle, len(entries)) == entries
    assert [bundle_entry(bundle, index) for index in range(len(entries))] == entries
    for beyond in (len(entries), len(entries) + 3):
        with pytest.raises(ChainCorrupted):
            bundle_entry(bundle, beyond)
    for count in (len(entries) + 1, len(entries) - 1):
        if count >= 0:
            with pytest.raises(ChainCorrupted):
                decode_bundle(bundle, count)
    cut = data.draw(st.integers(0, len(bundle)))
    if cut < len(bundle):
        with pytest.raises(ChainCorrupted):
            decode_bundle(bundle[:cut], len(entries))


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 511, 512, 700, 65_535, 65_536, 65_537, 66_000])
def test_a_store_of_any_size_comes_back(tmp_path, size):
    entries = entries_of(size)
    store = TileStore(RealFiles(), str(tmp_path))
    for at in range(0, size, 999):
        store.extend(entries[at : at + 999])
    store.publish()
    again = TileStore.resume(RealFiles(), str(tmp_path), size)
    expected = tree_of(entries)
    assert store.tree.root() == again.tree.root() == expected.root()
    more = entries_of(size + 300)
    again.extend(more[size:])
    again.publish()
    assert again.tree.root() == tree_of(more).root()
    leaves = [leaf_hash(entry) for entry in more]
    for index in range(len(more) // TILE_WIDTH):
        assert read_tile(str(tmp_path), 0, index) == leaves[index * TILE_WIDTH : (index + 1) * TILE_WIDTH]
        bundle = (tmp_path / entries_path(index)).read_bytes()
        assert decode_bundle(bundle, TILE_WIDTH) == more[index * TILE_WIDTH : (index + 1) * TILE_WIDTH]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=8))
def test_old_partial_tiles_go_and_the_needed_ones_stay(tmp_path_factory, sizes):
    folder = tmp_path_factory.mktemp("log")
    store, entries = TileStore(RealFiles(), str(folder)), entries_of(sum(sizes))
    at = 0
    published = []
    for size in sizes:
        store.extend(entries[at : at + size])
        at += size
        store.publish()
        store.forget_old()
        published.append(at)
        for wanted in dict.fromkeys(published[-2:]):
            assert TileStore.resume(RealFiles(), str(folder), wanted).tree.root() == tree_of(entries[:wanted]).root()
    partial = [name for _, _, names in os.walk(folder) for name in names if name.isdigit() and len(name) < 3]
    assert len(partial) <= 8


def test_missing_and_cut_tiles_are_named(tmp_path):
    store = TileStore(RealFiles(), str(tmp_path))
    store.extend(entries_of(300))
    store.publish()
    path = tmp_path / tile_path(0, 1, 44)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ChainCorrupted, match=r"tile/0/001\.p/44 has"):
        TileStore.resume(RealFiles(), str(tmp_path), 300)
    path.unlink()
    with pytest.raises(ChainCorrupted, match=r"tile/0/001\.p/44 cannot be read"):
        TileStore.resume(RealFiles(), str(tmp_path), 300)


def test_what_was_lost_behind_a_checkpoint_is_written_over(tmp_path):
    store = TileStore(RealFiles(), str(tmp_path))
    store.extend(entries_of(200))
    store.publish()
    store.extend([b"never on the disk"] * 100)
    again = TileStore.resume(RealFiles(), str(tmp_path), 200)
    again.extend(entries_of(300)[200:])
    assert read_tile(str(tmp_path), 0, 0) == [leaf_hash(entry) for entry in entries_of(256)]
