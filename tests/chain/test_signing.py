"""Keys are kept or refused; a checkpoint finds out a log that was cut, rewritten or put back to an older state."""

from __future__ import annotations

import os
import shutil
import stat

import pytest
from logs_for_tests import frames, note, open_log, root_now

from weftos import chain, limits
from weftos.chain.folder.segments import CHECKPOINT_NAME
from weftos.chain.signing.log_signer import HIGH_WATER_NAME
from weftos.errors import ChainCorrupted, ChainError, ConfigError, SignatureInvalid


@pytest.fixture
def keys(tmp_path):
    return tmp_path / "keys"


def pair_file(keys):
    (found,) = keys.glob("pair-*.key")
    return found


def test_a_pair_is_made_once_and_private(keys):
    first = chain.Signer.open(keys)
    assert chain.Signer.open(keys).public == first.public
    assert first.public.is_complete
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert stat.S_IMODE(pair_file(keys).stat().st_mode) == 0o600


def test_keys_that_others_may_read_are_refused(keys):
    chain.Signer.open(keys)
    for mode in (0o640, 0o604, 0o660):
        pair_file(keys).chmod(mode)
        with pytest.raises(ConfigError, match="others"):
            chain.Signer.open(keys)
    assert stat.S_IMODE(pair_file(keys).stat().st_mode) == 0o660


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 79, b"x" * 5000])
def test_keys_of_another_form_are_refused_and_kept(keys, content):
    chain.Signer.open(keys)
    pair_file(keys).write_bytes(content)
    with pytest.raises((ConfigError, ChainError)):
        chain.Signer.open(keys)
    assert pair_file(keys).read_bytes() == content


def test_a_signed_log_verifies_with_the_keys_from_outside(home, keys):
    signer = chain.Signer.open(keys)
    with open_log(home, signer=signer) as writer:
        writer.append(note(1))
    report = chain.verify(home, keys=signer.public)
    assert (report.valid, report.signature, report.signed_size, report.key_origin) == (True, "good", 3, "given")
    assert (report.checks.checkpoint, report.checks.root, report.checks.keys) == (True, True, True)
    assert report.signed_by == signer.public.pair_id
    assert chain.verify(home).key_origin == "log"
    assert [r.kind for r in chain.read(home)] == ["genesis", "key.genesis", "app.note"]


def test_other_keys_verify_nothing_and_may_not_write(home, keys, tmp_path):
    with open_log(home, signer=chain.Signer.open(keys)) as writer:
        writer.append(note(1))
    other = chain.Signer.open(tmp_path / "other")
    report = chain.verify(home, keys=other.public)
    assert (report.valid, report.signature) == (False, "bad")
    with pytest.raises(ChainError, match="other keys"):
        open_log(home, signer=other)
    os.unlink(home / CHECKPOINT_NAME)
    with pytest.raises(ChainError, match="old keys"):
        open_log(home, signer=other)


def test_a_log_begun_unsigned_can_be_signed_later(home, keys):
    with open_log(home) as writer:
        for number in range(600):
            writer.append(note(number))
    signer = chain.Signer.open(keys)
    for _ in range(2):
        with open_log(home, signer=signer):
            pass
    assert [r.kind for r in chain.read(home)][-1] == "key.genesis"
    report = chain.verify(home)
    assert (report.signature, report.checks.root, report.signed_size) == ("good", True, 602)


def test_every_byte_of_the_text_and_the_short_signature_is_covered(home, keys):
    signer = chain.Signer.open(keys)
    open_log(home, signer=signer).close()
    path = home / CHECKPOINT_NAME
    data = path.read_bytes()
    short = data.index("\n— ".encode(), data.index(b"\n\n") + 3)  # to the end of the first signature
    for at in range(short):
        path.write_bytes(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :])
        assert not chain.verify(home, keys=signer.public).valid, data[max(at - 10, 0) : at + 10]
        with pytest.raises((ChainError, ConfigError)):
            open_log(home, signer=signer)
    path.write_bytes(b"{}")
    assert chain.verify(home).signature == "bad"
    with pytest.raises(ChainCorrupted):
        open_log(home, signer=signer)
    path.write_bytes(data)
    open_log(home, signer=signer).close()


def test_a_missing_signature_is_no_weaker_policy(home, keys):
    signer = chain.Signer.open(keys)
    open_log(home, signer=signer).close()
    path = home / CHECKPOINT_NAME
    lines = path.read_text().splitlines(keepends=True)
    signatures = [at for at, line in enumerate(lines) if line.startswith("—")]
    assert len(signatures) == 2
    for at in signatures:
        path.write_text("".join(lines[:at] + lines[at + 1 :]))
        report = chain.verify(home, keys=signer.public)
        assert (report.valid, report.signature) == (False, "bad")
        with pytest.raises(SignatureInvalid):
            open_log(home, signer=signer)


@pytest.mark.parametrize("segments", [1, 4])
def test_a_log_cut_below_its_checkpoint_is_found_out(home, keys, segments):
    signer = chain.Signer.open(keys)
    with open_log(home, signer=signer, segment_bytes=limits.CHAIN_SEGMENT_MIN_BYTES) as writer:
        while writer.statistics().segments < segments or writer.head.seq < 10:
            writer.append(note(0))
    last = max(home.glob("*.log"))
    while len(frames(last)) < 2:  # nothing but its header: cut the one before
        last.unlink()
        last = max(home.glob("*.log"))
    start, _ = frames(last)[-1]
    os.truncate(last, start)  # exactly between two records: a chain without fault
    report = chain.verify(home)
    assert (report.valid, report.rolled_back, [e.code for e in report.errors]) == (False, True, ["rolled_back"])
    with pytest.raises(ChainCorrupted, match="rolled back"):
        open_log(home, signer=signer)


def test_a_log_rewritten_below_its_checkpoint_is_found_out(home, keys, tmp_path):
    signer = chain.Signer.open(keys)
    with open_log(home, signer=signer) as writer:
        for number in range(10):
            writer.append(note(number))
        log_id = writer.log_id
    with open_log(tmp_path / "forged") as writer:
        writer.log_id = log_id
        for number in range(20):
            writer.append(note(number + 1))
    forged = (tmp_path / "forged" / "00000001.log").read_bytes()
    (home / "00000001.log").write_bytes(forged)
    report = chain.verify(home, keys=signer.public)
    assert not report.valid
    with pytest.raises(ChainCorrupted):
        open_log(home, signer=signer)


def test_a_forged_rest_behind_good_links_has_another_root(home, keys, tmp_path):
    """Everything from a record on is forged by somebody who can compute every hash: only the signature is missing."""
    signer = chain.Signer.open(keys)
    with open_log(home, signer=signer) as writer:
        writer.append(note(1))
        writer.checkpoint()
        shutil.copytree(home, tmp_path / "forged")
        for number in range(10):
            writer.append(note(number))
    (tmp_path / "forged" / CHECKPOINT_NAME).unlink()
    with open_log(tmp_path / "forged") as writer:
        for number in range(10):
            writer.append(note(number + 1))
    (home / "00000001.log").write_bytes((tmp_path / "forged" / "00000001.log").read_bytes())
    report = chain.verify(home, keys=signer.public)
    assert [e.code for e in report.errors] == ["rewritten"]
    assert report.checks.root is False
    with pytest.raises(ChainCorrupted, match="rewritten"):
        open_log(home, signer=signer)


def test_records_behind_the_checkpoint_are_fine(home, keys):
    signer = chain.Signer.open(keys)
    with open_log(home, signer=signer) as writer:
        writer.checkpoint()
        before = (home / CHECKPOINT_NAME).read_bytes()
        writer.checkpoint()
        assert (home / CHECKPOINT_NAME).read_bytes() == before
        writer.append(note(1))
        writer.commit()
        writer.abandon()
        report = chain.verify(home)
        assert (report.valid, report.signed_size, report.records) == (True, 2, 3)
    open_log(home, signer=signer).close()


def test_a_long_end_without_a_checkpoint_gets_one_when_the_log_is_opened(home, keys, monkeypatch):
    monkeypatch.setattr(limits, "CHAIN_OPEN_TAIL", 20)
    signer = chain.Signer.open(keys)
    for count, covered in ((19, 2), (1, 22)):
        with open_log(home, signer=signer) as writer:
            size = writer.checkpoints.size
            writer.append_many([note(n) for n in range(count)])
            writer.commit()
            writer.abandon()
        assert chain.verify(home).signed_size == size
        with open_log(home, signer=signer) as writer:
            assert writer.checkpoints.size == covered
            writer.abandon()
        assert chain.verify(home).signed_size == covered


def test_a_program_that_only_reads_does_not_load_cryptography():
    import subprocess
    import sys

    code = "import sys, weftos.chain; sys.exit('cryptography' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_removed_checkpoint_is_noticed(home, keys):
    signer = chain.Signer.open(keys)
    with open_log(home, signer=signer) as writer:
        writer.append(note(1))
    assert chain.verify(home).warnings == []
    (home / CHECKPOINT_NAME).unlink()
    report = chain.verify(home)
    assert report.valid
    assert [(w.code, w.file) for w in report.warnings] == [("checkpoint_absent", CHECKPOINT_NAME)]
    with pytest.raises(ChainCorrupted, match="checkpoint was removed"):
        open_log(home, signer=signer)


def test_a_folder_put_back_to_an_older_state_is_refused(home, keys, tmp_path):
    signer = chain.Signer.open(keys)
    with open_log(home, signer=signer) as writer:
        writer.append(note(1))
    shutil.copytree(home, tmp_path / "older")
    with open_log(home, signer=signer) as writer:
        writer.append(note(2))
    shutil.rmtree(home)
    shutil.copytree(tmp_path / "older", home)
    assert chain.verify(home, keys=signer.public).valid, "by itself the older state is as good as it was"
    with pytest.raises(ChainCorrupted, match="rolled back"):
        open_log(home, signer=signer)


def test_a_log_that_is_gone_is_not_begun_again(home, keys):
    signer = chain.Signer.open(keys)
    open_log(home, signer=signer).close()
    shutil.rmtree(home)
    with pytest.raises(ChainCorrupted, match="is gone"):
        open_log(home, signer=signer)
    assert not any(home.glob("*.log"))
    (keys / HIGH_WATER_NAME).unlink()
    open_log(home, signer=signer).close()


def test_another_log_in_its_place_is_refused(home, keys, tmp_path):
    signer = chain.Signer.open(keys)
    open_log(home, signer=signer).close()
    (keys / HIGH_WATER_NAME).rename(tmp_path / "mark")
    open_log(tmp_path / "second", signer=signer).close()
    os.replace(tmp_path / "mark", keys / HIGH_WATER_NAME)
    with pytest.raises(ChainCorrupted, match="the keys belong to"):
        open_log(tmp_path / "second", signer=signer)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 700])
def test_missing_or_changed_tiles_are_made_again(home, keys, size):
    signer = chain.Signer.open(keys)
    with open_log(home, signer=signer) as writer:
        for number in range(size):
            writer.append(note(number))
    root = chain.verify(home).root
    tiles = [path for path in (home / "tile").rglob("*") if path.is_file()]
    for path in tiles:
        path.write_bytes(bytes(len(path.read_bytes())))
    with open_log(home, signer=signer) as writer:
        assert root_now(writer).hex() == root
        writer.append(note(1))
    shutil.rmtree(home / "tile")
    with open_log(home, signer=signer) as writer:
        writer.append(note(2))
    report = chain.verify(home, keys=signer.public)
    assert (report.valid, report.records) == (True, size + 4)


def test_verification_from_an_older_checkpoint_reads_only_what_is_new(home, keys):
    from weftos.chain.signing.checkpoint import parse_text
    from weftos.chain.signing.note import parse_note

    signer = chain.Signer.open(keys)
    with open_log(home, signer=signer, segment_bytes=64 * 1024) as writer:
        for number in range(1000):
            writer.append(note(number))
        writer.checkpoint()
        older = parse_text(parse_note((home / CHECKPOINT_NAME).read_bytes()).text)
        for number in range(900):
            writer.append(note(number))
    whole = chain.verify(home, keys=signer.public)
    for workers in (1, 3):
        report = chain.verify(home, keys=signer.public, since=older, workers=workers)
        assert (report.valid, report.root, report.since) == (True, whole.root, 1002)
        assert 900 <= report.records < 1902
    wrong = type(older)(older.origin, older.size, bytes(32))
    report = chain.verify(home, keys=signer.public, since=wrong)
    assert [e.code for e in report.errors] == ["rewritten"]


def test_several_processes_find_what_one_finds(home, keys):
    signer = chain.Signer.open(keys)
    with open_log(home, signer=signer, segment_bytes=limits.CHAIN_SEGMENT_MIN_BYTES) as writer:
        for number in range(300):
            writer.append(note(number))
    one, three = chain.verify(home), chain.verify(home, workers=3)
    assert one.valid
    assert (one.root, one.records, one.head_hash, one.bytes) == (
        three.root,
        three.records,
        three.head_hash,
        three.bytes,
    )
    path = sorted(home.glob("*.log"))[2]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    one, three = chain.verify(home), chain.verify(home, workers=3)
    assert not one.valid
    assert one.errors == three.errors
