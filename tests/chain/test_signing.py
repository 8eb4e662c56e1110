"""Keys are kept or refused; a signed head finds out a log that was cut or rewritten."""

from __future__ import annotations

import os
import stat

import pytest
from logs_for_tests import frames, note, open_log

from weftos import chain, limits
from weftos.chain.signing import KEY_NAME, PUBLIC_NAME
from weftos.errors import ChainCorrupted, ChainError, ConfigError


@pytest.fixture
def keys(tmp_path):
    return tmp_path / "keys"


def test_a_key_is_made_once_and_private(keys):
    first = chain.Signer.open(keys)
    assert chain.Signer.open(keys).public_key == first.public_key == chain.read_public_key(keys)
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert stat.S_IMODE((keys / KEY_NAME).stat().st_mode) == 0o600
    assert sorted(os.listdir(keys)) == [KEY_NAME, PUBLIC_NAME]


def test_a_key_that_others_may_read_is_refused(keys):
    chain.Signer.open(keys)
    for mode in (0o640, 0o604, 0o660):
        (keys / KEY_NAME).chmod(mode)
        with pytest.raises(ConfigError, match="may be read by others"):
            chain.Signer.open(keys)
    assert stat.S_IMODE((keys / KEY_NAME).stat().st_mode) == 0o660


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33, b"x" * 5000])
def test_a_key_of_wrong_length_is_refused_and_kept(keys, content):
    chain.Signer.open(keys)
    (keys / KEY_NAME).write_bytes(content)
    with pytest.raises(ConfigError, match="32 bytes"):
        chain.Signer.open(keys)
    assert (keys / KEY_NAME).read_bytes() == content


def test_a_replaced_or_lost_half_is_noticed(keys):
    chain.Signer.open(keys)
    (keys / KEY_NAME).write_bytes(b"y" * 32)
    with pytest.raises(ConfigError, match="does not belong"):
        chain.Signer.open(keys)
    os.unlink(keys / KEY_NAME)
    with pytest.raises(ConfigError, match="missing"):
        chain.Signer.open(keys)
    os.symlink("/dev/zero", keys / KEY_NAME)
    with pytest.raises(ChainError):
        chain.Signer.open(keys)
    os.unlink(keys / KEY_NAME)
    (keys / PUBLIC_NAME).write_text("not hex")
    with pytest.raises(ConfigError, match="hex digits"):
        chain.read_public_key(keys)


def test_a_signed_log_verifies_with_the_key_from_outside(home, keys):
    signer = chain.Signer.open(keys)
    with open_log(home, signer=signer) as writer:
        writer.append(note(1))
    report = chain.verify(home, public_key=chain.read_public_key(keys))
    assert (report.valid, report.signature, report.signed_size, report.key_origin) == (True, "good", 3, "given")
    assert report.checks.signed_head is True
    assert chain.verify(home).key_origin == "log"
    kinds = [r.kind for r in chain.read(home)]
    assert kinds == ["genesis", "key.genesis", "app.note"]
    assert list(chain.read(home))[1].payload["public_key"] == signer.public_key


def test_another_key_verifies_nothing_and_may_not_write(home, keys):
    with open_log(home, signer=chain.Signer.open(keys)) as writer:
        writer.append(note(1))
    other = chain.Signer(b"z" * 32)
    report = chain.verify(home, public_key=other.public_key)
    assert (report.valid, report.signature) == (False, "bad")
    with pytest.raises(ChainError, match="old key"):
        open_log(home, signer=other)
    os.unlink(home / "head.json")
    with pytest.raises(ChainError, match="old key"):
        open_log(home, signer=other)


def test_a_log_begun_unsigned_can_be_signed_later(home, keys):
    open_log(home).close()
    signer = chain.Signer.open(keys)
    for _ in range(2):
        with open_log(home, signer=signer):
            pass
    assert [r.kind for r in chain.read(home)] == ["genesis", "key.genesis"]
    assert chain.verify(home).signature == "good"


def test_each_field_of_the_head_is_covered(home, keys):
    signer = chain.Signer.open(keys)
    open_log(home, signer=signer).close()
    path = home / "head.json"
    text = path.read_text()
    for at, letter in enumerate(text):
        if letter not in "0123456789abcdef" or text[at - 1].isspace() or text[at - 1] not in '0123456789abcdef"':
            continue
        if text[at + 1].isalpha() and letter.isalpha() and text[at - 1] == '"':
            continue
        path.write_text(text[:at] + ("1" if letter != "1" else "2") + text[at + 1 :])
        assert not chain.verify(home, public_key=signer.public_key).valid, text[at - 10 : at + 10]
        with pytest.raises(ChainError):
            open_log(home, signer=signer)
    path.write_text("{}")
    assert chain.verify(home).signature == "bad"
    with pytest.raises(ChainCorrupted):
        open_log(home)
    path.write_text(text)
    open_log(home, signer=signer).close()


@pytest.mark.parametrize("segments", [1, 4])
def test_a_log_cut_below_its_signed_head_is_found_out(home, keys, segments):
    signer = chain.Signer.open(keys)
    with open_log(home, signer=signer, segment_bytes=limits.CHAIN_SEGMENT_MIN_BYTES) as writer:
        while writer.statistics().segments < segments or writer.head.seq < 10:
            writer.append(note(0))
    last = home / f"{segments:08d}.log"
    start, _ = frames(last)[-1]
    os.truncate(last, start)  # exactly between two records: a chain without fault
    report = chain.verify(home)
    assert (report.valid, report.rolled_back, [e.code for e in report.errors]) == (False, True, ["rolled_back"])
    with pytest.raises(ChainCorrupted, match="rolled back"):
        open_log(home, signer=signer)


def test_a_log_rewritten_below_its_signed_head_is_found_out(home, keys, tmp_path):
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
    report = chain.verify(home, public_key=signer.public_key)
    assert not report.valid
    assert "rewritten" in {e.code for e in report.errors}
    with pytest.raises(ChainCorrupted):
        open_log(home, signer=signer)


def test_records_behind_the_signed_head_are_fine(home, keys):
    signer = chain.Signer.open(keys)
    with open_log(home, signer=signer) as writer:
        writer.sign_head()
        before = (home / "head.json").read_bytes()
        writer.sign_head()
        assert (home / "head.json").read_bytes() == before
        writer.append(note(1))
        writer.commit()
        writer.abandon()
        report = chain.verify(home)
        assert (report.valid, report.signed_size, report.records) == (True, 2, 3)
    open_log(home, signer=signer).close()


def test_a_program_that_only_reads_does_not_load_cryptography():
    import subprocess
    import sys

    code = "import sys, weftos.chain; sys.exit('cryptography' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_removed_head_is_noticed(home, tmp_path):
    signer = chain.Signer.open(tmp_path / "keys")
    with open_log(home, signer=signer) as writer:
        writer.append(note(1))
    assert chain.verify(home).warnings == []
    (home / "head.json").unlink()
    report = chain.verify(home)
    assert report.valid
    assert [(w.code, w.file) for w in report.warnings] == [("head_absent", "head.json")]
