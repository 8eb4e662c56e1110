"""The files of a store, read by hand as docs/formats/vectors.md says; and figures that other programs can compare."""

from __future__ import annotations

import struct
from pathlib import Path

import msgspec
import numpy as np
import pytest
from blake3 import blake3
from vectors_by_hand import UnsyncedFiles, entry_expansion, raw_metadata, root_of

from weftos.ecc.vectors.model import CollectionSpec, Entry
from weftos.ecc.vectors.sealing import seal
from weftos.ecc.vectors.store import VectorStore
from weftos.merkle.frontier import Frontier, leaf_hash

SPEC = CollectionSpec("notes", 2, "l2", owner="me")
CONTENT = {
    "a": (np.array([1.0, 2.0], np.float32), {"n": 1, "k": "x"}, b"first"),
    "b": (np.array([-1.5, 0.0], np.float32), {}, b""),
    "é": (np.array([0.25, 8.0], np.float32), {"n": 2.5}, b""),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One sealed segment of a, b, é, in which b is dead; b is deleted, so it is in no delta."""
    monkeypatch.setattr("weftos.limits.VECTOR_DELTA_ROWS", 3)
    store = VectorStore.open(UnsyncedFiles(), str(tmp_path / "s"))
    store.create(SPEC)
    store.upsert("notes", [Entry(one, *kept) for one, kept in CONTENT.items()])
    assert store.content_root("notes") == root_of(CONTENT)
    with monkeypatch.context() as patch:
        patch.setattr("os.urandom", lambda count: bytes(range(count)))
        order = store.wanted()
    sealed = seal(order, UnsyncedFiles())
    store.committed(3, 77)
    store.delete("notes", ["b"])
    store.adopt(sealed)
    assert store.uncommitted().counts == {"upsert": 1, "delete": 1}
    store.close()
    return tmp_path / "s"


def _subject(content: bytes) -> bytes:
    hasher = blake3(derive_key_context="weftos.ecc.vectors subject v1")
    hasher.update(content)
    return hasher.digest()


def _leaves() -> list[tuple[int, bytes]]:
    spec = {"dimension": 2, "identity": None, "metric": "l2", "name": "notes", "owner": "me"}
    digests = [(1, _subject(msgspec.msgpack.encode(spec)))]
    digests += [(3, entry_expansion(one, kept)[:32]) for one, kept in CONTENT.items()]
    digests.append((4, _subject(b"b")))
    return [
        (kind, leaf_hash(b"WVO1" + struct.pack("<QBQ", op, kind, 1) + digest))
        for op, (kind, digest) in enumerate(digests, 1)
    ]


def test_manifest_leaves_and_commitments(folder: Path) -> None:
    raw = (folder / "manifest").read_bytes()
    assert (raw[:8], raw[8:40]) == (b"WEFTVMF1", blake3(raw[40:]).digest())
    generation, first_journal, ledger, collections = msgspec.msgpack.decode(raw[40:])
    assert (generation, first_journal) == (2, 2)
    records = [bytes([kind]) + leaf for kind, leaf in _leaves()]
    assert (folder / "ops.leaves").read_bytes() == b"".join(records)
    tree = Frontier()
    tree.extend(leaf for _kind, leaf in _leaves()[:3])
    fields = struct.pack("<QQQ", 1, 3, 77) + tree.root() + blake3(b"".join(records[:3])).digest(16)
    commitment = fields + blake3(fields).digest(8)
    assert (folder / "ops.commitments").read_bytes() == commitment
    assert ledger == [5, 1, blake3(commitment).digest(), blake3(b"".join(records[3:])).digest()]
    ((uid, spec, through, ((file, _digest, dead),), total, upserts, deletes, swaps),) = collections
    assert (uid, spec["name"], through, dead, upserts, deletes, swaps) == (1, "notes", 5, b"\x02", 3, 1, 1)
    assert file == "segment-" + bytes(range(12)).hex()
    live = [np.frombuffer(entry_expansion(one, CONTENT[one]), "<u2") for one in ("a", "é")]
    assert total == (live[0] + live[1]).tobytes()


def test_journals(folder: Path, tmp_path: Path) -> None:
    store = VectorStore.open(UnsyncedFiles(), str(tmp_path / "other"))
    store.create(SPEC)
    store.upsert("notes", [Entry(one, *kept) for one, kept in CONTENT.items()])
    store.delete("notes", ["b"])
    store.committed(2, 9)
    store.drop("notes")
    store.sync()
    store.close()
    raw = (tmp_path / "other" / "journal-00000001").read_bytes()
    assert (raw[:8], raw[8:24], struct.unpack_from("<Q", raw, 40)) == (b"WEFTJNL1", b"vectors".ljust(16, b"\0"), (1,))
    at, contents = 64, []
    while at < len(raw):
        size = struct.unpack_from("<I", raw, at + 4)[0]
        contents.append(msgspec.msgpack.decode(raw[at + 40 : at + 40 + size]))
        at += 40 + size
    spec = {"name": "notes", "dimension": 2, "metric": "l2", "identity": None, "owner": "me"}
    vectors = b"".join(kept[0].tobytes() for kept in CONTENT.values())
    metadata = [raw_metadata(kept[1]) for kept in CONTENT.values()]
    assert contents == [
        ["b", 1, 1],
        ["c", 1, spec],
        ["u", 2, 1, ["a", "b", "é"], vectors, metadata, [b"first", b"", b""]],
        ["d", 5, 1, ["b"]],
        ["s", 2, 9],
        ["x", 6, 1],
    ]


def test_segment(folder: Path) -> None:
    raw = next(folder.glob("segment-*")).read_bytes()
    size, digest, magic = struct.unpack("<Q32s8s", raw[-48:])
    head_raw = raw[-48 - size : -48]
    assert (raw[:8], magic, digest) == (b"WEFTVSG1", b"WEFTVSG1", blake3(head_raw).digest())
    uid, file, dimension, metric, rows, ef, recall, sections, fields = msgspec.msgpack.decode(head_raw)
    assert (uid, file, dimension, metric, rows, ef, recall) == (
        1,
        f"segment-{bytes(range(12)).hex()}",
        2,
        "l2",
        3,
        0,
        1.0,
    )

    def section(place: list) -> bytes:
        content = raw[place[0] : place[0] + place[1]]
        assert place[0] % 64 == 0
        assert place[2] in (b"", blake3(content).digest())
        return content

    found = {name: section(place) for name, place in sections.items()}
    ids = [one.encode() for one in CONTENT]
    hashes = [int.from_bytes(blake3(one).digest(8), "little") for one in ids]
    order = sorted(range(3), key=hashes.__getitem__)
    assert found["vectors"] == b"".join(kept[0].tobytes() for kept in CONTENT.values())
    assert found["graph"] == b""
    assert found["ops"] == struct.pack("<3Q", 2, 3, 4)
    assert found["hashes"] == struct.pack("<3Q", *sorted(hashes))
    assert found["hash_rows"] == struct.pack("<3I", *order)
    assert (found["ids"], found["id_ends"]) == ("abé".encode(), struct.pack("<4Q", 0, 1, 2, 4))
    records = []
    for op, (_vector, metadata, document) in enumerate(CONTENT.values(), 2):
        packed, number = raw_metadata(metadata), struct.pack("<Q", op)
        checks = blake3(number + b"m" + packed).digest(16) + blake3(number + b"d" + document).digest(16)
        head = struct.pack("<I", len(packed)) + checks
        records.append(head + packed + document if packed or document else b"")
    ends = [sum(map(len, records[:count])) for count in range(4)]
    assert (found["records"], found["record_ends"]) == (b"".join(records), struct.pack("<4Q", *ends))
    columns = {name: (section(codes), msgspec.msgpack.decode(section(values))) for name, codes, values in fields}
    assert columns == {"n": (struct.pack("<3I", 1, 0, 2), [1, 2.5]), "k": (struct.pack("<3I", 1, 0, 0), ["x"])}


def test_vector() -> None:
    """Figures of the content above, for programs in other languages."""
    assert (
        entry_expansion("a", CONTENT["a"])[:32].hex()
        == "1d8359808db3d6def82f2485e28002df8f98e1fae76b367c6e177666f50ddde2"
    )
    assert root_of(CONTENT).hex() == "4c63dc7cf9a0f044caf905959dd1aad624fab08bb828a5c3ba7f9e1d6037b88b"
    assert _leaves()[1][1].hex() == "56bd09f0699df752e04f45ae720174ae40426b75dcf07caede2f5b93f6c2c3d6"


def test_the_whole_segment_is_the_one_on_record(folder: Path) -> None:
    assert (
        blake3(next(folder.glob("segment-*")).read_bytes()).hexdigest()
        == "f9c1a323eec6383a44e0bec75fcf75d202503b80aa8e972b83e15d82a00a8080"
    )
