"""What a crash may leave is repaired; what it cannot have left is evidence."""

from __future__ import annotations

import os
import shutil

import pytest
from logs_for_tests import BOOT, frames, note, numbers, open_log

from weftos import chain, limits
from weftos.errors import ChainCorrupted, ChainError


def snapshot(directory):
    return {path: path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def test_a_tail_torn_at_any_byte_is_set_aside(small, tmp_path):
    whole = (small / "00000001.log").read_bytes()
    start, size = frames(small / "00000001.log")[-1]
    for kept in range(1, size):
        home = tmp_path / f"t{kept}"
        shutil.copytree(small, home)
        (home / "00000001.log").write_bytes(whole[: start + kept])
        report = chain.verify(home)
        assert report.valid
        assert [(w.code, w.seq, w.offset) for w in report.warnings] == [("torn_tail", 8, start)]
        with open_log(home) as writer:
            assert writer.recovered_bytes == kept
            assert writer.append(note(7, producer="ring-1", position=7)).seq == 9
        recovered = list(chain.read(home))[8]
        assert recovered.kind == "chain.recovered"
        name = "torn-8-1.bin"
        assert recovered.payload == {"lost_bytes": kept, "offset": start, "segment": 1, "files": [name]}
        assert (home / name).read_bytes() == whole[start : start + kept]
        assert numbers(home) == list(range(8))
        assert chain.verify(home).warnings == []
        shutil.rmtree(home)


def test_a_flipped_bit_anywhere_is_found_where_it_is(small):
    path = small / "00000001.log"
    whole = path.read_bytes()
    places = frames(path)
    for index, (start, size) in enumerate(places):
        for at in range(start, start + size):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << (at % 8)
            path.write_bytes(damaged)
            report = chain.verify(small)
            if index == len(places) - 1:
                assert report.valid
                assert [(w.code, w.offset) for w in report.warnings] == [("torn_tail", start)], at
                continue
            assert not report.valid
            assert {e.code for e in report.errors} <= {"bad_crc", "bad_frame"}, at
            assert [e.offset for e in report.errors] == [start], at
            assert report.errors[0].seq == max(index - 1, 0)
            assert report.records == len(places) - 1 - (index > 0)
            before = snapshot(small)
            with pytest.raises(ChainCorrupted) as caught:
                open_log(small)
            assert (caught.value.path, caught.value.offset) == (str(path), start)
            assert snapshot(small) == before
            with pytest.raises(ChainCorrupted):
                list(chain.read(small))


def test_the_last_frame_damaged_under_a_signed_head_is_no_torn_tail(home):
    signer = chain.Signer.open(home.parent / "keys")
    with open_log(home, signer=signer) as writer:
        writer.append(note(1))
    path = home / "00000001.log"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    before = snapshot(home)
    with pytest.raises(ChainCorrupted, match="rolled back"):
        open_log(home, signer=signer)
    with pytest.raises(ChainCorrupted, match="rolled back"):
        open_log(home)
    assert snapshot(home) == before
    report = chain.verify(home, keys=signer.public)
    assert report.rolled_back
    assert [e.code for e in report.errors] == ["rolled_back"]


@pytest.mark.parametrize("garbage", [b"\0" * 5000, b"\xff" * 3, os.urandom(4000), b"\x02\0" * 700])
def test_garbage_behind_the_end_is_set_aside(small, garbage):
    path = small / "00000001.log"
    good = path.read_bytes()
    path.write_bytes(good + garbage)
    with open_log(small) as writer:
        assert writer.recovered_bytes == len(garbage)
    assert path.read_bytes().startswith(good)
    assert (small / "torn-9-1.bin").read_bytes() == garbage
    assert chain.verify(small).valid


def test_a_frame_of_another_log_in_a_torn_payload_does_not_count(home, tmp_path):
    with open_log(tmp_path / "other") as writer:
        writer.append(note(1))
    foreign = (tmp_path / "other" / "00000001.log").read_bytes()[-300:]
    with open_log(home) as writer:
        writer.append(chain.NewEvent("a", "app.x", {"x": foreign * 3}))
    path = home / "00000001.log"
    os.truncate(path, path.stat().st_size - 1)
    with open_log(home) as writer:
        assert writer.recovered_bytes > 900
    assert chain.verify(home).valid


def test_a_torn_genesis_is_made_anew(home):
    open_log(home).close()
    path = home / "00000001.log"
    (_, header), (start, size) = frames(path)
    os.truncate(path, start + size - 1)
    with open_log(home) as writer:
        assert writer.head.seq == 1
    assert [r.kind for r in chain.read(home)] == ["genesis", "chain.recovered"]
    os.truncate(path, header)
    os.unlink(home / "torn-1-1.bin")
    open_log(home).close()
    assert [r.kind for r in chain.read(home)] == ["genesis"]


def test_a_torn_write_at_the_start_of_a_segment(home):
    with open_log(home, segment_bytes=limits.CHAIN_SEGMENT_MIN_BYTES) as writer:
        while writer.statistics().segments < 3:
            writer.append(note(0))
        writer.flush(sync=False)
        last = home / "00000003.log"
    (_, header), *records = frames(last)
    assert len(records) == 1
    os.truncate(last, header + 7)
    with open_log(home) as writer:
        assert writer.recovered_bytes == 7
    report = chain.verify(home)
    assert report.valid
    assert report.segments == 3


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_missing_segment_is_damage(home, number):
    with open_log(home, segment_bytes=limits.CHAIN_SEGMENT_MIN_BYTES) as writer:
        while writer.statistics().segments < 4:
            writer.append(note(0))
    os.unlink(home / f"{number:08d}.log")
    before = snapshot(home)
    with pytest.raises(ChainCorrupted):
        open_log(home)
    assert snapshot(home) == before
    report = chain.verify(home)
    assert [(e.code, e.file) for e in report.errors] == [("missing_segment", f"{number:08d}.log")]
    assert report.records > 20


def test_damage_in_an_old_segment_keeps_the_log_shut(home):
    with open_log(home, segment_bytes=limits.CHAIN_SEGMENT_MIN_BYTES) as writer:
        while writer.statistics().segments < 4:
            writer.append(note(0))
    path = home / "00000002.log"
    data = bytearray(path.read_bytes())
    for at in (20, len(data) // 2, len(data) - 1):
        damaged = bytearray(data)
        damaged[at] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(ChainCorrupted) as caught:
            open_log(home)
        assert caught.value.path == str(path)
        report = chain.verify(home)
        assert [e.file for e in report.errors] == ["00000002.log"]
    path.write_bytes(data[:-10])
    with pytest.raises(ChainCorrupted):
        open_log(home)
    with pytest.raises(ChainCorrupted):
        list(chain.read(home))
    path.write_bytes(data)
    open_log(home).close()


def test_only_headers_of_very_old_segments_are_read(home, monkeypatch):
    with open_log(home, segment_bytes=limits.CHAIN_SEGMENT_MIN_BYTES) as writer:
        while writer.statistics().segments < 9:
            writer.append(note(0))
    monkeypatch.setattr(limits, "CHAIN_OPEN_SCAN_BYTES", 2 * limits.CHAIN_SEGMENT_MIN_BYTES)
    path = home / "00000003.log"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    open_log(home).close()
    assert not chain.verify(home).valid
    data[30] ^= 1
    path.write_bytes(data)
    with pytest.raises(ChainCorrupted):
        open_log(home)


def test_segments_of_two_logs_do_not_mix(home, tmp_path):
    for directory in (home, tmp_path / "other"):
        with open_log(directory, segment_bytes=limits.CHAIN_SEGMENT_MIN_BYTES) as writer:
            while writer.statistics().segments < 3:
                writer.append(note(0))
    shutil.copy(tmp_path / "other" / "00000003.log", home / "00000003.log")
    with pytest.raises(ChainCorrupted):
        open_log(home)
    assert "foreign_log" in {e.code for e in chain.verify(home).errors}


def test_a_later_format_is_refused_not_guessed(small):
    from weftos.chain.records import frames as fr

    path = small / "00000001.log"
    (_, header), *_ = frames(path)
    rest = path.read_bytes()[header:]
    new = fr.encode_frame(fr.SEGMENT, fr._encode(["exo/segment", 2, bytes(16), 1, 0, bytes(32), 0]), b"")
    path.write_bytes(new + rest)
    with pytest.raises(ChainCorrupted, match="version 2"):
        open_log(small)


def test_leftovers_of_a_crash_are_removed(small):
    for name in ("00000002.log.tmp", "checkpoint.tmp", "torn-3-1.bin.tmp"):
        (small / name).write_bytes(b"half")
    (small / "notes.txt").write_text("kept")
    open_log(small).close()
    assert sorted(os.listdir(small)) == ["00000001.log", "notes.txt"]


def test_an_unreadable_file_is_no_damage(small):
    path = small / "00000001.log"
    os.rename(path, small.parent / "elsewhere")
    os.symlink(small.parent / "elsewhere", path)  # not followed: root cannot be refused by permissions
    with pytest.raises(ChainError) as caught:
        open_log(small)
    assert not isinstance(caught.value, ChainCorrupted)
    with pytest.raises(ChainError):
        chain.verify(small)


# --- idempotency over restarts --------------------------------------------------------


def test_what_is_submitted_again_gets_its_first_answer(home):
    with open_log(home) as writer:
        first = writer.append(note(1, producer="ring-1", position=5))
        assert writer.append(note(1, producer="ring-1", position=5)) == first
        other = writer.append(note(3, producer=1, position=5))
        assert other.seq == first.seq + 1
        assert writer.statistics().duplicates == 1
    with open_log(home) as writer:
        assert writer.append(note(1, producer="ring-1", position=5)) == first
        assert writer.append_many([note(3, producer=1, position=5), note(4, producer=1, position=6)]) == [
            other,
            writer.append(note(4, producer=1, position=6)),
        ]
    assert numbers(home) == [1, 3, 4]


def test_positions_belong_to_a_boot(home):
    with open_log(home) as writer:
        writer.append(note(1, producer="ring-1", position=5))
    with open_log(home, boot_id=BOOT[::-1]) as writer:
        writer.append(note(2, producer="ring-1", position=5))
    assert numbers(home) == [1, 2]
