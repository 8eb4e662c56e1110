"""Attacks 1 to 9, 14, 15 and 31: somebody edits, cuts, reorders or rewrites the records of a log.

The numbers are those of docs/attacks.md. The log has 12 records (0 genesis, 1 keys, 2 to 11 notes), all covered by its
checkpoint, so whatever the attacker does must show as an error with the number of the record that it is about.
"""

from __future__ import annotations

import os
from itertools import pairwise

import pytest
from forged_logs import BOOT, Forger, Ticking, note, open_log, places

from weftos import chain
from weftos.chain.records.record import encode_header
from weftos.errors import AppendRefused, ChainCorrupted, ChainError

RECORDS = 12


def refused(target, match):
    """Opening the log for writing fails with status 5 and leaves every byte as it is."""
    before = target.segment.read_bytes()
    with pytest.raises(ChainCorrupted, match=match) as caught:
        target.open()
    assert (caught.value.code, caught.value.exit_code) == ("chain.corrupted", 5)
    assert target.segment.read_bytes() == before


def test_the_target_is_sound_before_the_attack(target):
    report = target.report()
    assert (report.valid, report.records, report.signed_size, report.signature) == (True, RECORDS, RECORDS, "good")
    assert target.weaver_verify() == (0, [])


def test_attack_01_an_edited_payload_byte(target, forger):
    payload = bytearray(forger.records[5][2][16:])
    payload[-1] ^= 1
    forger.set_payload(5, bytes(payload), with_hash=False)
    forger.write()
    assert target.found() == [("payload_mismatch", 5)]
    assert target.report().errors[0].offset == forger.offset(5)
    assert target.weaver_verify() == (5, [("payload_mismatch", 5)])


def test_attack_01_an_edited_payload_byte_without_a_new_checksum(target, forger):
    data = bytearray(target.segment.read_bytes())
    at, size = places(target.segment)[6]
    data[at + size - 6] ^= 1
    target.segment.write_bytes(data)
    assert target.found() == [("bad_crc", 5)]
    assert target.report().errors[0].offset == forger.offset(5)
    refused(target, "bad_crc")


def test_attack_02_a_payload_with_its_hash(target, forger):
    forger.set_payload(5, b"\x81\xa1n\x63", with_hash=True)
    forger.write()
    assert target.found() == [("prev_mismatch", 6)]
    assert target.report().errors[0].offset == forger.offset(6)
    assert target.weaver_verify()[0] == 5


def rewrite(forger, start=5):
    forger.set_payload(start, b"\x81\xa1n\xcd\x12\x34", with_hash=True)
    forger.relink(start + 1)
    forger.write()


@pytest.mark.parametrize("start", [2, 5, RECORDS - 1])
def test_attack_03_a_rewritten_suffix_whose_checkpoint_is_taken_away(target, forger, start):
    rewrite(forger, start)
    target.checkpoint.unlink()
    assert target.found() == [("checkpoint_absent", -1)]
    assert target.weaver_verify() == (5, [("checkpoint_absent", -1)])
    refused(target, "checkpoint was removed")


@pytest.mark.parametrize("start", [2, 5, RECORDS - 1])
def test_attack_04_a_rewritten_suffix_under_the_old_checkpoint(target, forger, start):
    rewrite(forger, start)
    assert target.found() == [("rewritten", RECORDS - 1)]
    assert target.report().checks.root is False
    assert target.weaver_verify() == (5, [("rewritten", RECORDS - 1)])
    with pytest.raises(ChainError) as caught:
        target.open()
    assert caught.value.exit_code == 5


def test_attack_05_a_removed_record_with_the_rest_renumbered(target, forger):
    del forger.records[5]
    for index in range(5, len(forger.records)):
        forger.edit(index, seq=index)
    forger.write()
    found = target.found()
    assert found[0] == ("prev_mismatch", 5)
    assert found[-1] == ("rolled_back", RECORDS - 1)
    refused(target, "prev_mismatch|rolled back")


def test_attack_05_a_removed_record_with_the_rest_renumbered_and_linked(target, forger):
    del forger.records[5]
    forger.relink(5)
    forger.write()
    assert target.found() == [("rolled_back", RECORDS - 1)]
    forger.records.append(list(forger.records[-1]))  # and the number made up for
    forger.relink(5)
    forger.write()
    assert target.found() == [("rewritten", RECORDS - 1)]
    assert target.weaver_verify()[0] == 5


@pytest.mark.parametrize("dropped", [1, 4, RECORDS])
def test_attack_06_the_last_records_dropped(target, forger, dropped):
    os.truncate(target.segment, forger.offset(RECORDS - dropped))
    kept = RECORDS - dropped
    report = target.report()
    assert (report.valid, report.rolled_back) == (False, True)
    assert ("rolled_back", kept) in target.found()
    refused(target, "rolled back")


def test_attack_06_what_no_checkpoint_covers_can_be_dropped(target):
    """The limit of this defence: one checkpoint interval. Who was told "cosigned" or "durable" later has a proof."""
    with target.open() as writer:
        writer.append(note(99))
        writer.commit()
        writer.abandon()
    os.truncate(target.segment, places(target.segment)[-1][0])
    assert target.found() == []


@pytest.mark.parametrize("left", [1, 7, 40])
def test_attack_07_cut_inside_a_record_that_was_signed(target, forger, left):
    os.truncate(target.segment, forger.offset(8) + left)
    assert target.found() == [("rolled_back", 8)]
    assert [one.code for one in target.report().warnings] == ["torn_tail"]
    assert target.report().warnings[0].offset == forger.offset(8)
    refused(target, "rolled back")


def test_attack_07_cut_inside_a_record_that_was_not(target):
    with target.open() as writer:
        writer.append(note(99))
        writer.commit()
        writer.abandon()
    at, size = places(target.segment)[-1]
    torn = target.segment.read_bytes()[at : at + size - 3]
    os.truncate(target.segment, at + size - 3)
    with target.open() as writer:
        assert writer.recovered_bytes == len(torn)
    newest = list(chain.read(target.home))[-1]
    assert (newest.kind, newest.payload["lost_bytes"]) == ("chain.recovered", len(torn))
    assert any(path.read_bytes() == torn for path in target.home.rglob("*") if path.is_file()), "kept as evidence"
    assert target.found() == []


@pytest.mark.parametrize(("byte", "code"), [(0, "bad_frame"), (2, "bad_frame"), (4, "bad_crc"), (8, "bad_crc")])
def test_attack_08_a_flipped_bit_in_a_frame_in_the_middle(target, forger, byte, code):
    data = bytearray(target.segment.read_bytes())
    data[forger.offset(6) + byte] ^= 1
    target.segment.write_bytes(data)
    report = target.report()
    assert [(one.code, one.seq, one.offset) for one in report.errors] == [(code, 6, forger.offset(6))]
    assert report.records == RECORDS - 1, "what follows is still looked at"
    refused(target, code)


def test_attack_09_records_swapped(target, forger):
    forger.records[5], forger.records[6] = forger.records[6], forger.records[5]
    forger.write()
    assert target.found()[0] == ("seq_gap", 6)
    assert {code for code, _ in target.found()} >= {"seq_gap", "prev_mismatch", "time_reversed"}
    refused(target, "seq_gap|prev_mismatch|rewritten")


def test_attack_09_a_record_twice(target, forger):
    forger.records.insert(6, forger.records[5])
    forger.write()
    assert target.found()[:2] == [("seq_gap", 5), ("prev_mismatch", 5)]
    refused(target, "seq_gap|prev_mismatch|rewritten")


def test_attack_14_fields_that_run_into_each_other(tmp_path, forger):
    header = forger.records[5][0]
    names = [name for name in header.__struct_fields__ if name in ("source", "kind", "subject", "producer", "permit")]
    split, shifted = {}, {}
    for first, second in pairwise(names):
        for left, right, store in (("a\0b", "c", split), ("a", "b\0c", shifted)):
            values = {name: getattr(header, name) for name in header.__struct_fields__}
            store[first] = encode_header(tuple((values | {first: left, second: right}).values()))
    assert len(names) == 5
    for name in names[:-1]:
        assert split[name] != shifted[name]
    with open_log(tmp_path / "other") as writer:
        for field in ("subject", "producer", "permit"):
            more = {"position": 1} if field == "producer" else {}
            with pytest.raises(AppendRefused):
                writer.append(note(1, **{field: "a\0b"}, **more))
        for event in (chain.NewEvent("a\0b", "app.c"), chain.NewEvent("a", "app.b\0c")):
            with pytest.raises(AppendRefused) as caught:
                writer.append(event)
            assert caught.value.code == "chain.append_refused"


@pytest.mark.parametrize(
    "fields", [{"t_ns": 1}, {"t_mono_ns": 1}, {"position": 1}, {"producer": "ring-2"}], ids=lambda one: next(iter(one))
)
@pytest.mark.parametrize("index", [6, RECORDS - 1])
def test_attack_15_an_edited_nanosecond_or_idempotency_key(target, forger, fields, index):
    header = forger.records[index][0]
    changed = {name: getattr(header, name) + step if isinstance(step, int) else step for name, step in fields.items()}
    forger.edit(index, **changed)
    forger.write()
    # In the middle the next record tells; of the last one, the signed root.
    expected = ("prev_mismatch", index + 1) if index < RECORDS - 1 else ("rewritten", index)
    assert expected in target.found()
    assert target.weaver_verify()[0] == 5


def test_attack_31_a_clock_that_is_stepped_back(tmp_path):
    with open_log(tmp_path / "chain", clock=Ticking(step=-3_600_000_000_000)) as writer:
        acks = [writer.append(note(number)) for number in range(5)]
    assert [ack.t_ns for ack in acks] == sorted(ack.t_ns for ack in acks)
    with open_log(tmp_path / "chain", boot_id=BOOT[::-1], clock=Ticking(start=1_000_000_000)) as writer:
        assert writer.append(note(5)).t_ns >= acks[-1].t_ns, "nor by a boot with a clock that lost its battery"
    times = [record.t_ns for record in chain.read(tmp_path / "chain")]
    assert times == sorted(times)
    assert chain.verify(tmp_path / "chain").valid


def test_attack_31_times_forged_backwards(tmp_path):
    with open_log(tmp_path / "chain") as writer:
        for number in range(5):
            writer.append(note(number))
    forger = Forger(tmp_path / "chain" / "00000001.log")
    forger.edit(3, t_ns=1)
    forger.relink(4)
    forger.write()
    assert [(one.code, one.seq) for one in chain.verify(tmp_path / "chain").errors] == [("time_reversed", 3)]
