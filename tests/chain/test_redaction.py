"""Payloads taken away, keys handed over, single records found; each also with the world ending at every call."""

from __future__ import annotations

import errno
import os
import shutil

import pytest
from forged_records import append_forged
from logs_for_tests import Crash, FaultyDisk, note, open_log, root_now

from weftos import chain, limits
from weftos.chain.folder.locate import record_at
from weftos.chain.records.canonical import encode_payload
from weftos.chain.writing.key_change import rotate_keys
from weftos.errors import AppendRefused, ChainCorrupted, ChainError, StorageFailed

SMALL = limits.CHAIN_SEGMENT_MIN_BYTES
SECRET = "Quintus Fabius, born 1961"


def secret_event():
    return chain.NewEvent("agent:7", "app.person", {"name": SECRET})


def all_bytes(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("place", ["first segment", "last segment"])
def test_a_payload_goes_and_the_log_still_verifies(home, signer, place):
    with open_log(home, signer=signer, segment_bytes=SMALL) as writer:
        for number in range(10):
            writer.append(note(number))
        seq = writer.append(secret_event()).seq
        if place == "first segment":
            while writer.statistics().segments < 4:
                writer.append(note(1))
        before = record_at(home, seq) if place == "first segment" else None
        writer.checkpoint()
        root = root_now(writer)
        ack = writer.redact(seq, "asked to", "operator")
        assert writer.statistics().bytes == sum(path.stat().st_size for path in home.glob("*.log"))
        writer.append(note(99))
    assert SECRET.encode() not in all_bytes(home)
    record = record_at(home, seq)
    assert (record.withheld, record.payload, record.kind) == (True, {}, "app.person")
    assert before is None or record.hash == before.hash
    assert record_at(home, ack.seq).payload["payload_hash"] == record.header.payload_hash
    for workers in (1, 2):
        report = chain.verify(home, keys=signer.public, workers=workers)
        assert (report.valid, report.checks.withheld, report.errors) == (True, 1, [])
    assert [r.withheld for r in chain.read(home)].count(True) == 1
    assert record.view()["payload"] is None
    with open_log(home, signer=signer, segment_bytes=SMALL) as writer:
        assert writer.checkpoints.newest.root != root, "the log went on"
        with pytest.raises(AppendRefused, match="gone already"):
            writer.redact(seq, "again", "operator")


def test_a_payload_that_is_gone_without_a_word_is_damage(home, signer):
    from weftos.chain.records.redaction import erase_payload
    from weftos.disk.files import RealFiles

    with open_log(home, signer=signer) as writer:
        seq = writer.append(secret_event()).seq
    assert erase_payload(RealFiles(), str(home / "00000001.log"), seq) > 0
    assert erase_payload(RealFiles(), str(home / "00000001.log"), seq) == 0
    report = chain.verify(home, keys=signer.public)
    assert [(e.seq, e.code) for e in report.errors] == [(seq, "payload_withheld")]


def test_an_agent_cannot_excuse_a_missing_payload(home, signer):
    from weftos.chain.records.redaction import erase_payload
    from weftos.disk.files import RealFiles

    with open_log(home, signer=signer) as writer:
        seq = writer.append(secret_event()).seq
        writer.commit()
        record = record_at(home, seq)
        lie = {"seq": seq, "kind": "app.person", "payload_hash": record.header.payload_hash, "reason": "x", "by": "me"}
        writer.append(chain.NewEvent("agent:7", "chain.redacted", lie))
    erase_payload(RealFiles(), str(home / "00000001.log"), seq)
    assert not chain.verify(home, keys=signer.public).valid


def test_what_the_log_needs_stays(home, signer):
    with open_log(home, signer=signer) as writer:
        for seq in (0, 1):
            with pytest.raises(AppendRefused, match="cannot be verified without"):
                writer.redact(seq, "x", "operator")
        with pytest.raises(ChainError, match="not in the log"):
            writer.redact(77, "x", "operator")


@pytest.mark.parametrize("needed", [0, 1])
@pytest.mark.parametrize("hostage", [False, True], ids=["alone", "behind a lawful one"])
def test_a_forged_announcement_takes_nothing_that_the_log_needs(home, signer, needed, hostage):
    with open_log(home, signer=signer) as writer:
        seq = writer.append(secret_event()).seq
    for target in (seq, needed) if hostage else (needed,):
        record = record_at(home, target)
        told = {"seq": target, "kind": record.kind, "payload_hash": record.header.payload_hash}
        append_forged(home, "chain.redacted", encode_payload(told | {"reason": "x", "by": "me"}))
    before = {path.name: path.read_bytes() for path in home.glob("*.log")}
    with pytest.raises(ChainCorrupted, match=f"payload of record {needed} is gone.*nothing was erased"):
        open_log(home, signer=signer)
    assert {path.name: path.read_bytes() for path in home.glob("*.log")} == before
    assert not record_at(home, needed).withheld
    assert not record_at(home, seq).withheld


def copy_of(tmp_path, name):
    home = tmp_path / name / "chain"
    shutil.copytree(tmp_path / "model" / "chain", home)
    shutil.copytree(tmp_path / "model" / "keys", tmp_path / name / "keys")
    return home, chain.Signer.open(tmp_path / name / "keys")


def model(tmp_path):
    home = tmp_path / "model" / "chain"
    home.parent.mkdir()
    with open_log(home, signer=chain.Signer.open(tmp_path / "model" / "keys"), segment_bytes=SMALL) as writer:
        writer.append(note(1))
        seq = writer.append(secret_event()).seq
        for number in range(3):
            writer.append(note(number))
    return seq


@pytest.mark.parametrize("power", [0.0, pytest.param(None, marks=pytest.mark.slow)])
def test_the_world_ends_at_each_call_of_a_redaction(tmp_path, power):
    seq = model(tmp_path)
    home, signer = copy_of(tmp_path, "rehearsal")
    disk = FaultyDisk()
    with open_log(home, fs=disk, signer=signer, segment_bytes=SMALL) as writer:
        opening = disk.calls
        writer.redact(seq, "asked to", "operator")
    assert disk.calls - opening > 15
    for at in range(opening, disk.calls):
        home, signer = copy_of(tmp_path, f"at-{at}")
        faulty = FaultyDisk(at, Crash())
        with pytest.raises(Crash):
            writer = open_log(home, fs=faulty, signer=signer, segment_bytes=SMALL)
            try:
                writer.redact(seq, "asked to", "operator")
                writer.close()
            finally:
                writer.abandon()
        faulty.shut()
        if power is not None:
            faulty.lose_power(power)
        with open_log(home, signer=signer, segment_bytes=SMALL):
            pass
        report = chain.verify(home, keys=signer.public)
        assert report.valid, (at, disk.names[at], report.errors)
        said = [r for r in chain.read(home) if r.kind == "chain.redacted"]
        assert len(said) == report.checks.withheld == record_at(home, seq).withheld, (at, disk.names[at])


def test_a_redaction_that_fails_is_finished_later(tmp_path):
    seq = model(tmp_path)
    home, signer = copy_of(tmp_path, "full")

    class Full(chain.RealFiles):
        def rename(self, source, target):
            if target.endswith(".log") and os.path.exists(target):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().rename(source, target)

    writer = open_log(home, fs=Full(), signer=signer)
    with pytest.raises(StorageFailed, match="No space"):
        writer.redact(seq, "x", "operator")
    writer.abandon()
    assert not record_at(home, seq).withheld
    open_log(home, signer=signer).close()
    assert record_at(home, seq).withheld
    assert SECRET.encode() not in all_bytes(home)


def test_keys_are_handed_over_and_followed(home, signer):
    first = signer.public
    with open_log(home, signer=signer) as writer:
        for _ in range(3):
            writer.append(note(1))
            rotate_keys(writer, signer)
    assert signer.public != first
    for keys in (first, signer.public, None):
        report = chain.verify(home, keys=keys)
        assert (report.valid, report.signed_by) == (True, signer.public.pair_id)
    again = chain.Signer.open(signer.folder)
    with open_log(home, signer=again) as writer:
        writer.append(note(2))
    assert chain.verify(home, keys=first).valid


def test_a_change_of_keys_that_only_one_side_signed_is_found_out(home, signer, tmp_path):
    from weftos.chain.signing.checkpoint import log_origin
    from weftos.chain.signing.keyring import KeyPair, hand_over

    thief = KeyPair(b"t" * 32, b"u" * 32)
    with open_log(home, signer=signer) as writer:
        origin = log_origin(writer.log_id)
        claimed = hand_over(origin, thief, thief.public, thief)  # the thief "endorses" himself
        payload = claimed.to_payload() | {
            "old_ed25519": signer.public.ed25519,
            "old_ml_dsa_65": signer.public.ml_dsa_65,
        }
        writer.append(chain.NewEvent("chain", "key.rotate", payload))
    report = chain.verify(home, keys=signer.public)
    assert (report.valid, report.signature) == (False, "bad")


def test_the_world_ends_at_each_call_of_a_change_of_keys(tmp_path):
    model(tmp_path)
    home, signer = copy_of(tmp_path, "rehearsal")
    disk = FaultyDisk()
    writer = open_log(home, fs=disk, signer=signer)
    first, opening = signer.public, disk.calls
    rotate_keys(writer, signer)
    writer.close()
    for at in range(opening, disk.calls):
        home, signer = copy_of(tmp_path, f"at-{at}")
        faulty = FaultyDisk(at, Crash())
        with pytest.raises(Crash):
            writer = open_log(home, fs=faulty, signer=signer)
            try:
                rotate_keys(writer, signer)
                writer.close()
            finally:
                writer.abandon()
        faulty.shut()
        again = chain.Signer.open(signer.folder)
        with open_log(home, signer=again) as writer:
            writer.append(note(5))
        report = chain.verify(home, keys=first)
        assert report.valid, (at, disk.names[at], report.errors)


def test_every_record_is_found_by_its_number(home):
    with open_log(home, segment_bytes=512 * 1024) as writer:
        for number in range(3000):
            writer.append(chain.NewEvent("a", "app.note", {"n": number, "x": "y" * (number * 37 % 900)}))
        # Content that looks like frames must not lead astray.
        with open(home / "00000001.log", "rb") as file:
            writer.append(chain.NewEvent("a", "app.note", {"frames": file.read(60_000)}))
        for number in range(500):
            writer.append(note(number))
    assert len(list(home.glob("*.log"))) > 3
    records = list(chain.read(home))
    for record in records[::29] + records[-502:-490]:
        # A hint that is wrong costs time, nothing else.
        for size in (None, len(records), 1, record.seq, 10**9):
            assert record_at(home, record.seq, record.header_bytes, size).hash == record.hash
    for record in (records[3], records[-500], records[-1]):
        assert record_at(home, record.seq).hash == record_at(home, record.seq, b"another").hash == record.hash
    with pytest.raises(ChainError, match="not in the log"):
        record_at(home, len(records))


def test_a_damaged_record_is_not_taken_for_another(home):
    with open_log(home) as writer:
        for number in range(50):
            writer.append(note(number))
    path = home / "00000001.log"
    data = bytearray(path.read_bytes())
    place = data.index(b"app.note", len(data) // 2)
    data[place] ^= 1
    path.write_bytes(data)
    failures = 0
    for seq in range(51):
        try:
            assert record_at(home, seq).seq == seq
        except (ChainCorrupted, ChainError):
            failures += 1
    assert 1 <= failures <= 30
