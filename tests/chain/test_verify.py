"""The verifier finds what an attacker does who can write files and compute checksums, and says where."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from logs_for_tests import BOOT, Ticking, frames, note, open_log

from weftos import chain, limits
from weftos.chain.records.cursor import parse
from weftos.chain.records.frames import BODY, RECORD, encode_frame, read_frame_at
from weftos.chain.records.record import encode_header, payload_hash, record_hash
from weftos.chain.statements.windows import WindowPairs
from weftos.disk.files import ReadFile

pytestmark = pytest.mark.usefixtures("any_payload")


class Forger:
    """Takes a segment apart and puts it together again, with right checksums."""

    def __init__(self, path: Path) -> None:
        self.path = path
        data = path.read_bytes()
        self.places = frames(path)
        self.head = data[: self.places[0][1]]
        self.records = []
        for at, _ in self.places[1:]:
            body = read_frame_at(data, at)
            assert body is not None
            self.records.append(list(parse(body)))

    def edit(self, index: int, **fields: object) -> None:
        header = self.records[index][0]
        values = [fields.get(name, getattr(header, name)) for name in header.__struct_fields__]
        raw = encode_header(values)
        self.records[index][0] = type(header)(*values)
        self.records[index][1] = raw

    def set_payload(self, index: int, payload: bytes) -> None:
        self.records[index][2] = self.records[index][2][:16] + payload

    def write(self) -> None:
        data = self.head
        for _, raw, salted in self.records:
            data += encode_frame(RECORD, raw, salted)
        self.path.write_bytes(data)


@pytest.fixture
def forger(small):
    return Forger(small / "00000001.log")


def codes(directory, **settings):
    report = chain.verify(directory, **settings)
    assert report.valid == (not report.errors)
    return [(e.code, e.seq) for e in report.errors]


def test_putting_it_together_unchanged_changes_nothing(small, forger):
    before = forger.path.read_bytes()
    forger.write()
    assert forger.path.read_bytes() == before
    report = chain.verify(small)
    assert (report.valid, report.records, report.first_seq, report.last_seq) == (True, 9, 0, 8)
    assert report.head_hash == list(chain.read(small))[-1].hash.hex()
    assert report.bytes == len(before)


def test_an_edited_payload(small, forger):
    forger.set_payload(3, forger.records[3][2][16:-1] + b"\x07")
    forger.write()
    assert codes(small) == [("payload_mismatch", 3)]
    assert chain.verify(small).errors[0].offset == forger.places[4][0]


def test_an_edited_payload_with_its_hash(small, forger):
    forger.set_payload(3, b"\x81\xa1n\x63")
    forger.edit(3, payload_hash=payload_hash(forger.records[3][2]))
    forger.write()
    assert codes(small) == [("prev_mismatch", 4)]


def test_another_salt_under_the_same_payload(small, forger):
    forger.records[3][2] = b"\0" * 16 + forger.records[3][2][16:]
    forger.write()
    assert codes(small) == [("payload_mismatch", 3)]


@pytest.mark.parametrize(
    "fields",
    [
        {"t_ns": 1_800_000_000_000_000_000},
        {"t_mono_ns": 1},
        {"boot_id": b"x" * 16},
        {"source": "agent:8"},
        {"kind": "app.other"},
        {"subject": "x"},
        {"producer": "ring-2"},
        {"position": 99},
        {"cause": 1},
        {"permit": "p"},
    ],
)
def test_any_edited_field(small, forger, fields):
    forger.edit(3, **fields)
    forger.write()
    assert ("prev_mismatch", 4) in codes(small)


def test_a_removed_record(small, forger):
    del forger.records[4]
    forger.write()
    assert codes(small) == [("seq_gap", 5), ("prev_mismatch", 5)]


def test_a_removed_record_with_the_rest_renumbered(small, forger):
    del forger.records[4]
    for index in range(4, 8):
        forger.edit(index, seq=index)
    forger.write()
    assert [code for code, _ in codes(small)] == ["prev_mismatch"] * 4


def test_a_repeated_and_a_swapped_record(small, forger):
    forger.records.insert(5, forger.records[4])
    forger.write()
    assert codes(small)[:2] == [("seq_gap", 4), ("prev_mismatch", 4)]
    del forger.records[5]
    forger.records[4], forger.records[5] = forger.records[5], forger.records[4]
    forger.write()
    assert {code for code, _ in codes(small)} == {"seq_gap", "prev_mismatch", "time_reversed"}


def test_a_header_of_other_form(small, forger):
    raw = forger.records[3][1]
    forger.records[3][1] = b"\xdd\0\0\0\x10" + raw[3:]  # the same array with a longer length
    forger.write()
    assert codes(small) == [("header_invalid", 3), ("prev_mismatch", 4)]
    forger.records[3][1] = raw[:-1]
    forger.write()
    assert codes(small) == [("header_invalid", 3)]
    assert chain.verify(small).records == 8


def test_unknown_flags_are_not_overlooked(small, forger):
    data = bytearray(forger.path.read_bytes())
    at, size = forger.places[4]
    body = bytearray(read_frame_at(bytes(data), at))
    body[1] = 1
    from zlib import crc32

    data[at + 4 : at + 8] = crc32(body, len(body)).to_bytes(4, "little")
    data[at + 8 : at + size - 4] = body
    forger.path.write_bytes(data)
    assert codes(small) == [("header_invalid", 3)]
    assert BODY.size == 4


def test_a_rewritten_rest_needs_the_signed_head(home):
    signer = chain.Signer.open(home.parent / "keys")
    with open_log(home, signer=signer) as writer:
        for number in range(8):
            writer.append(note(number))
    forger = Forger(home / "00000001.log")
    forger.edit(4, source="agent:9")
    for index in range(5, len(forger.records)):
        forger.edit(index, prev_hash=record_hash(forger.records[index - 1][1]))
    forger.write()
    assert codes(home) == [("rewritten", 9)]
    os.unlink(home / "checkpoint")
    assert chain.verify(home).valid, "by what the log says of itself"
    report = chain.verify(home, keys=signer.public)
    assert (report.valid, report.signature, report.checks.checkpoint) == (False, "absent", False)
    assert [(one.code, one.file) for one in report.errors] == [("checkpoint_absent", "checkpoint")]


def test_damage_in_the_middle_does_not_hide_what_follows(home):
    with open_log(home, segment_bytes=limits.CHAIN_SEGMENT_MIN_BYTES) as writer:
        while writer.statistics().segments < 4:
            writer.append(note(0))
        total = writer.head.seq + 1
    for number in (1, 2, 3):
        path = home / f"{number:08d}.log"
        data = bytearray(path.read_bytes())
        at, size = frames(path)[5]
        data[at + size // 2] ^= 1
        path.write_bytes(data)
    report = chain.verify(home)
    assert [(e.code, e.file) for e in report.errors] == [("bad_crc", f"{n:08d}.log") for n in (1, 2, 3)]
    assert report.records == total - 3
    assert report.checks.frames is False
    assert report.checks.links is True


def test_a_damaged_segment_header(home):
    with open_log(home, segment_bytes=limits.CHAIN_SEGMENT_MIN_BYTES) as writer:
        while writer.statistics().segments < 3:
            writer.append(note(0))
        total = writer.head.seq + 1
    path = home / "00000002.log"
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    report = chain.verify(home)
    assert [(e.code, e.file, e.offset) for e in report.errors] == [("bad_crc", "00000002.log", 0)]
    assert report.records == total


def test_swapped_segments(home):
    with open_log(home, segment_bytes=limits.CHAIN_SEGMENT_MIN_BYTES) as writer:
        while writer.statistics().segments < 4:
            writer.append(note(0))
    (home / "00000002.log").rename(home / "x")
    (home / "00000003.log").rename(home / "00000002.log")
    (home / "x").rename(home / "00000003.log")
    assert "segment_link" in {code for code, _ in codes(home)}


def test_much_damage_is_found_in_time_that_does_not_explode(home, monkeypatch):
    with open_log(home) as writer:
        writer.append_many([note(n, permit="p" * 100) for n in range(20_000)])
    path = home / "00000001.log"
    data, spans = bytearray(path.read_bytes()), frames(path)
    for at, size in spans[50:20_000:50]:
        data[at + size // 2] ^= 1
    path.write_bytes(data)
    taken = 0
    read = ReadFile.read

    def counting(self, offset, count):
        nonlocal taken
        found = read(self, offset, count)
        taken += len(found)
        return found

    monkeypatch.setattr(ReadFile, "read", counting)
    report = chain.verify(home)
    damaged = len(spans[50:20_000:50])
    assert report.error_count == damaged
    assert {problem.code for problem in report.errors} == {"bad_crc"}
    assert [problem.offset for problem in report.errors] == [at for at, _ in spans[50:20_000:50]]
    assert taken < len(data) + damaged * (limits.CHAIN_READ_BYTES + 5 * 67_616)


def test_progress_is_reported(home):
    with open_log(home) as writer:
        writer.append_many([note(n) for n in range(25_000)])
    calls: list[int] = []
    chain.verify(home, calls.append)
    assert calls == sorted(calls)
    assert calls[-1] == 25_001
    assert len(calls) > 3


def test_a_report_of_endless_errors_is_bounded(small, forger, monkeypatch):
    monkeypatch.setattr(limits, "CHAIN_VERIFY_ERRORS", 3)
    for index in range(2, 9):
        forger.edit(index, prev_hash=bytes(32))
    forger.write()
    report = chain.verify(small)
    assert (len(report.errors), report.error_count) == (3, 7)


# --- audit windows ------------------------------------------------------------------------


def window(side, start=0, end=4096, digest=b"d" * 32, ring=1, **more):
    payload = {"ring": ring, "side": side, "from": start, "to": end, "count": 3, "bytes": end - start, "digest": digest}
    return chain.NewEvent("agent:1" if side == "producer" else "agent:2", "ipc.window", payload | more)


def grants(*rings):
    return [grant(ring) for ring in rings]


def grant(ring, source="kernel"):
    payload = {"ring": ring, "from": 1, "to": 2, "direct": True, "broadcast": False, "topics": []}
    return chain.NewEvent(source, "ipc.grant", payload | {"capacity_bytes": 65536})


def test_windows_that_agree(home):
    with open_log(home) as writer:
        writer.append_many([*grants(1), window("producer"), window("producer", 4096, 9000), window("consumer")])
    report = chain.verify(home)
    assert report.valid
    checks = report.checks
    assert (checks.windows_total, checks.windows_paired, checks.windows_unpaired) == (3, 1, 1)


@pytest.mark.parametrize("change", [{"digest": b"e" * 32}, {"count": 4}, {"bytes": 7}])
def test_windows_that_differ(home, change):
    with open_log(home) as writer:
        writer.append_many([*grants(1), window("producer"), window("consumer", **change)])
    assert codes(home) == [("window_mismatch", 3)]


def test_a_window_that_contradicts_a_pair_is_found(home):
    with open_log(home) as writer:
        writer.append_many(
            [*grants(1), window("producer"), window("consumer"), window("consumer"), window("producer", count=9)]
        )
    assert codes(home) == [("window_mismatch", 5)]
    checks = chain.verify(home).checks
    assert (checks.windows_paired, checks.windows_unpaired) == (1, 0)


def test_paired_windows_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(limits, "CHAIN_VERIFY_PAIRED", 2)
    pairs = WindowPairs()
    pairs.grant(bytes(16), "kernel", {"ring": 1, "from": 1, "to": 2})
    for start in range(100):
        for side in ("producer", "consumer"):
            event = window(side, start, start + 1)
            assert pairs.add(0, bytes(16), event.source, event.payload) is None
    assert (pairs.paired, pairs.unpaired) == (100, 0)
    assert pairs.add(0, bytes(16), "agent:1", window("producer", 0, 1, b"x" * 32).payload) is None
    assert pairs.add(0, bytes(16), "agent:1", window("producer", 99, 100, b"x" * 32).payload) is not None


def test_windows_of_other_rings_and_boots_do_not_meet(home):
    with open_log(home) as writer:
        writer.append_many([*grants(1, 2), window("producer"), window("consumer", digest=b"e" * 32, ring=2)])
    with open_log(home, boot_id=BOOT[::-1], clock=Ticking(1_800_000_000_000_000_000)) as writer:
        writer.append_many([*grants(1), window("consumer", digest=b"f" * 32)])
    assert chain.verify(home).valid


@pytest.mark.parametrize("source", ["agent:3", "agent:2", "kernel"])
def test_nobody_but_the_ends_of_a_ring_can_make_the_log_look_false(home, source):
    liar = chain.NewEvent(source, "ipc.window", window("producer", digest=b"e" * 32).payload)
    ungranted = [window("producer", ring=9), window("consumer", ring=9, digest=b"e" * 32)]
    forged = grant(9, "agent:3")
    with open_log(home) as writer:
        writer.append_many([*grants(1), window("producer"), liar, window("consumer"), forged, *ungranted])
    report = chain.verify(home)
    assert report.valid
    assert (report.checks.windows_paired, report.checks.windows_unpaired) == (1, 0)


def test_a_repeated_window_is_no_pair(home):
    with open_log(home) as writer:
        writer.append_many([*grants(1), window("producer"), window("producer")])
    checks = chain.verify(home).checks
    assert (checks.windows_paired, checks.windows_unpaired) == (0, 1)
