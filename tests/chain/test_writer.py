"""Taking, grouping, rolling, reading back."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys

import pytest
from logs_for_tests import BOOT, FaultyDisk, Ticking, note, numbers, open_log

from weftos import chain, limits
from weftos.chain.records.idempotency import ProducerIndex
from weftos.errors import AppendRefused, ChainCorrupted, ChainError, StorageFailed


def test_a_new_log_has_a_genesis_and_is_private(home):
    with open_log(home) as writer:
        assert writer.head.seq == 0
    first = next(chain.read(home))
    assert (first.seq, first.kind, first.header.prev_hash) == (0, "genesis", bytes(32))
    assert first.payload["log_id"] == first.header.log_id == writer.log_id
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "00000001.log").stat().st_mode) == 0o600


def test_every_field_comes_back(home):
    payload = {"z": None, "a": [1, -2, 1 << 63, True, {"k": b"\0\xff"}], "ü": "text", "f": 0.5, "": {}}
    with open_log(home) as writer:
        ack = writer.append(chain.NewEvent("agent:7", "app.x", payload, "me", 0, "ring-9", (1 << 64) - 1, "permit-3"))
        writer.append(chain.NewEvent("kernel", "boot.services", {"count": 3}, None, None, 9, 0))
    record = list(chain.read(home))[ack.seq]
    h = record.header
    assert record.payload == payload
    assert (record.hash, record.t_ns) == (ack.hash, ack.t_ns)
    assert (h.source, h.kind, h.subject, h.cause) == ("agent:7", "app.x", "me", 0)
    assert (h.producer, h.position, h.permit, h.boot_id) == ("ring-9", (1 << 64) - 1, "permit-3", BOOT)
    assert list(record.payload) == sorted(payload)
    shown = json.loads(json.dumps(record.view()))
    assert shown["payload"]["a"][4] == {"k": "00ff"}
    assert shown["hash"] == ack.hash.hex()
    assert next(chain.read(home, start=2)).header.producer == 9


@pytest.mark.parametrize(
    "event",
    [
        chain.NewEvent("a b", "app.x"),
        chain.NewEvent("", "app.x"),
        chain.NewEvent("x" * 129, "app.x"),
        chain.NewEvent("a\n", "app.x"),
        chain.NewEvent(7, "app.x"),
        chain.NewEvent([], "app.x"),
        chain.NewEvent("a", "APP.x"),
        chain.NewEvent("a", "app.x\n"),
        chain.NewEvent("a", "app..x"),
        chain.NewEvent("a", "agent.spwan"),
        chain.NewEvent("a", "app." + "x" * 61),
        chain.NewEvent("a", None),
        chain.NewEvent("a", "app.x", []),
        chain.NewEvent("a", "app.x", {1: 2}),
        chain.NewEvent("a", "app.x", {"a": {1: 2}}),
        chain.NewEvent("a", "app.x", {"a": float("nan")}),
        chain.NewEvent("a", "app.x", {"a": [[float("-inf")]]}),
        chain.NewEvent("a", "app.x", {"a": {1}}),
        chain.NewEvent("a", "app.x", {"a": stat}),
        chain.NewEvent("a", "app.x", {"a": bytearray(1)}),
        chain.NewEvent("a", "app.x", {"a": 1 << 64}),
        chain.NewEvent("a", "app.x", {"a": -(1 << 63) - 1}),
        chain.NewEvent("a", "app.x", {"a": "\ud800"}),
        chain.NewEvent("a", "app.x", {"a": b"x" * limits.CHAIN_PAYLOAD_BYTES}),
        chain.NewEvent("a", "app.x", {}, ""),
        chain.NewEvent("a", "app.x", {}, "a\0b"),
        chain.NewEvent("a", "app.x", {}, "ü" * 513),
        chain.NewEvent("a", "app.x", {}, "\ud800"),
        chain.NewEvent("a", "app.x", {}, None, 2),
        chain.NewEvent("a", "app.x", {}, None, -1),
        chain.NewEvent("a", "app.x", {}, None, True),
        chain.NewEvent("a", "app.x", {}, None, None, "p"),
        chain.NewEvent("a", "app.x", {}, None, None, None, 1),
        chain.NewEvent("a", "app.x", {}, None, None, "p", 1 << 64),
        chain.NewEvent("a", "app.x", {}, None, None, "p", -1),
        chain.NewEvent("a", "app.x", {}, None, None, "p", 1.0),
        chain.NewEvent("a", "app.x", {}, None, None, True, 1),
        chain.NewEvent("a", "app.x", {}, None, None, 1 << 64, 1),
        chain.NewEvent("a", "app.x", {}, None, None, "", 1),
        chain.NewEvent("a", "app.x", permit=""),
        chain.NewEvent("a", "app.x", permit=b"x"),
    ],
)
def test_what_is_not_acceptable_is_refused_and_leaves_no_trace(home, event):
    with open_log(home) as writer:
        writer.append(chain.NewEvent("a", "app.x", {}, None, None, 1, 0))
        with pytest.raises(AppendRefused):
            writer.append(event)
        with pytest.raises(AppendRefused):
            writer.append_many([note(1), event, note(2)])
        assert writer.head.seq == 1
    assert chain.verify(home).records == 2


def test_endless_and_deep_payloads_are_refused(home):
    endless: dict = {}
    endless["self"] = endless
    deep: list = []
    for _ in range(limits.CHAIN_PAYLOAD_DEPTH):
        deep = [deep]
    with open_log(home) as writer:
        for payload in (endless, {"d": deep}):
            with pytest.raises(AppendRefused, match="nested"):
                writer.append(chain.NewEvent("a", "app.x", payload))
        writer.append(chain.NewEvent("a", "app.x", {"d": deep[0][0]}))


def test_the_largest_event_fits_into_a_frame_that_readers_take(home):
    event = chain.NewEvent(
        "s" * limits.CHAIN_SOURCE_BYTES,
        "app." + "k" * (limits.CHAIN_KIND_BYTES - 4),
        {"x": b"x" * (limits.CHAIN_PAYLOAD_BYTES - 6)},
        "ü" * (limits.CHAIN_SUBJECT_BYTES // 2),
        0,
        "p" * limits.CHAIN_PRODUCER_BYTES,
        (1 << 64) - 1,
        "q" * limits.CHAIN_PERMIT_BYTES,
    )
    with open_log(home) as writer:
        writer.append(event)
    (record,) = chain.tail(home, 1)
    assert len(record.payload_bytes) == limits.CHAIN_PAYLOAD_BYTES
    assert chain.verify(home).valid


def test_a_batch_is_not_refused_half_way(home):
    with open_log(home) as writer:
        writer._index = ProducerIndex(window=8, entries=8)
        writer.append_many([note(n, producer="p", position=n) for n in range(8)])
        # Position 12 makes the index forget 1000 and all before it, and 13 follows in the same batch.
        batch = [note(n, producer="p", position=n) for n in (1000, 8, 9, 10, 11, 12, 13)]
        acks = writer.append_many(batch)
        assert [ack.seq for ack in acks] == list(range(9, 16))
        before = writer.statistics().records
        with pytest.raises(AppendRefused, match="before what is remembered"):
            writer.append_many([note(99, producer="p", position=2000), note(0, producer="p", position=0)])
        assert writer.statistics().records == before


def test_time_never_runs_backwards(home):
    clock = Ticking()
    with open_log(home, clock=clock) as writer:
        late = writer.append(note(1)).t_ns
        clock.now -= 10**12
        assert writer.append(note(2)).t_ns == late
    with open_log(home, clock=Ticking(start=5)) as writer:
        assert writer.append(note(3)).t_ns == late
    assert chain.verify(home).valid


def test_an_append_is_invisible_until_flushed(home):
    with open_log(home) as writer:
        writer.append_many([note(1), note(2)])
        assert numbers(home) == []
        writer.flush(sync=False)
        assert numbers(home) == [1, 2]


def test_a_flush_is_one_write_and_a_commit_one_sync_more(home):
    class Counting(chain.RealFiles):
        def __init__(self):
            self.calls: list[str] = []

        def write(self, fd, data):
            self.calls.append("write")
            return super().write(fd, data)

        def sync_data(self, fd):
            self.calls.append("sync")
            super().sync_data(fd)

    disk = Counting()
    with open_log(home, fs=disk) as writer:
        disk.calls.clear()
        writer.append_many([note(n) for n in range(500)])
        writer.flush(sync=False)
        assert disk.calls == ["write"]
        writer.append(note(500))
        writer.commit()
        assert disk.calls == ["write", "write", "sync"]
        writer.commit()
        assert disk.calls == ["write", "write", "sync"]
        numbers_of = writer.statistics()
    assert (numbers_of.largest_group, numbers_of.syncs, numbers_of.records) == (500, 2, 502)


def test_a_large_buffer_is_written_by_itself(home):
    with open_log(home) as writer:
        big = {"x": b"x" * 60_000}
        for _ in range(40):
            writer.append(chain.NewEvent("a", "app.x", big))
        assert writer.statistics().buffered < 20


def test_segments_roll_and_stay_one_log(home):
    with open_log(home, segment_bytes=limits.CHAIN_SEGMENT_MIN_BYTES) as writer:
        for number in range(200):
            writer.append(note(number))
            if number % 7 == 0:
                writer.flush(sync=number % 2 == 0)
        count = writer.statistics().segments
    assert count > 10
    assert sorted(os.listdir(home)) == [f"{n:08d}.log" for n in range(1, count + 1)]
    assert numbers(home) == list(range(200))
    report = chain.verify(home)
    assert (report.valid, report.records, report.segments) == (True, 201, count)
    for start in (0, 1, 57, 199, 200, 201, 500):
        assert [r.seq for r in chain.read(home, start=start, stop=start + 20)] == list(
            range(start, min(start + 20, 201))
        )
    for wanted in (0, 1, 2, 30, 199, 200, 201, 500):
        assert [r.seq for r in chain.tail(home, wanted)] == list(range(max(0, 201 - wanted), 201))
    with open_log(home, segment_bytes=limits.CHAIN_SEGMENT_MIN_BYTES) as writer:
        writer.append(note(200))
    assert numbers(home) == list(range(201))
    assert chain.verify(home).valid


def test_a_record_larger_than_a_segment_gets_its_place(home):
    with open_log(home, segment_bytes=limits.CHAIN_SEGMENT_MIN_BYTES) as writer:
        for _ in range(3):
            writer.append(chain.NewEvent("a", "app.x", {"x": b"x" * 50_000}))
    assert chain.verify(home).valid
    assert len(list(chain.read(home))) == 4


def test_tail_finds_large_records(home):
    with open_log(home) as writer:
        for number in range(30):
            writer.append(chain.NewEvent("a", "app.x", {"n": number, "x": b"x" * 40_000}))
    assert [r.payload["n"] for r in chain.tail(home, 25)] == list(range(5, 30))


def test_reading_follows_a_writer_over_segments(home):
    with open_log(home, segment_bytes=limits.CHAIN_SEGMENT_MIN_BYTES) as writer:
        reading = chain.read(home)
        seen = [next(reading).seq]
        for number in range(100):
            writer.append(note(number))
            writer.flush(sync=False)
            seen.append(next(reading).seq)
        assert seen == list(range(101))
        assert list(reading) == []


def test_a_half_written_frame_is_the_end_for_readers(small):
    path = small / "00000001.log"
    whole = path.read_bytes()
    for cut in range(1, 120):
        path.write_bytes(whole[:-cut])
        assert numbers(small) == list(range(7))
        assert chain.tail(small, 1)[0].payload == {"n": 6}
        assert [r.seq for r in chain.tail(small, 50)] == list(range(8))


def test_only_one_process_writes(home):
    code = (
        "import sys; from weftos import chain; from weftos.errors import ChainError\n"
        "try: chain.ChainWriter.open(sys.argv[1], boot_id=bytes(16))\n"
        "except ChainError as error: print(error)\n"
    )
    with open_log(home):
        result = subprocess.run([sys.executable, "-c", code, str(home)], capture_output=True, text=True, check=True)
    assert "another process writes" in result.stdout
    open_log(home).close()


def test_what_is_no_log_is_told_apart(tmp_path, home):
    with pytest.raises(ChainError, match="does not exist"):
        list(chain.read(home))
    with pytest.raises(ChainError, match="does not exist"):
        chain.verify(home)
    home.mkdir()
    with pytest.raises(ChainError, match="empty"):
        chain.tail(home, 1)
    (home / "letters.txt").write_text("mine")
    for look in (open_log, chain.verify, lambda d: list(chain.read(d))):
        with pytest.raises(ChainError, match=r"letters\.txt") as caught:
            look(home)
        assert not isinstance(caught.value, ChainCorrupted)
    assert os.listdir(home) == ["letters.txt"]
    with pytest.raises(ChainError, match="cannot be opened"):
        open_log(home / "letters.txt")
    with pytest.raises(StorageFailed):
        open_log(tmp_path / "no" / "such")


def test_a_log_without_its_segments_is_damaged_not_new(home):
    signer = chain.Signer.open(home.parent / "keys")
    open_log(home, signer=signer).close()
    os.unlink(home / "00000001.log")
    for look in (open_log, chain.verify):
        with pytest.raises(ChainCorrupted, match="gone"):
            look(home)
    assert sorted(os.listdir(home)) == ["checkpoint", "tile"]


def test_a_closed_log_takes_nothing(home):
    writer = open_log(home)
    writer.close()
    writer.close()
    with pytest.raises(StorageFailed, match="closed"):
        writer.append(note(1))
    with pytest.raises(StorageFailed, match="closed"):
        writer.flush(sync=True)


def test_leaving_with_an_error_keeps_what_was_flushed(home):
    def work() -> None:
        with open_log(home) as writer:
            writer.append(note(1))
            writer.flush(sync=False)
            writer.append(note(2))
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert numbers(home) == [1]


def test_short_writes_are_finished(home):
    disk = FaultyDisk()
    with open_log(home, fs=disk) as writer:
        writer.append_many([note(n) for n in range(50)])
    assert disk.names.count("write") > 4
    assert numbers(home) == list(range(50))
