"""Pinned keys are replaced only along changes of keys that hold."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys

import pytest
from logs_for_tests import Crash, FaultyDisk

from weftos import limits
from weftos.chain.signing.keyring import KeyPair, hand_over, locked_folder
from weftos.chain.signing.note import COSIGNATURE, VerifierKey
from weftos.chain.signing.pins import PINS_NAME, Pins
from weftos.chain.signing.rotation import PublicKeys
from weftos.disk.files import RealFiles
from weftos.errors import ChainError, ConfigError, SignatureInvalid

LOG, OTHER = "weftos/log/" + "0" * 32, "weftos/log/" + "1" * 32
A, B, C, D = (KeyPair(bytes([2 * n]) * 32, bytes([2 * n + 1]) * 32) for n in range(4))


def change(old, new, origin=LOG):
    return hand_over(origin, old, old.public, new)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "outside" / PINS_NAME


@pytest.fixture
def pins(path):
    return Pins(path)


def test_the_first_use_is_remembered(pins, path):
    assert pins.get(LOG) is None
    with pytest.raises(ConfigError, match="compare"):
        pins.check(LOG, A.public)
    assert pins.pin(LOG, A.public) is True
    assert pins.pin(LOG, A.public) is False
    assert pins.pin(OTHER, B.public) is True
    assert (pins.get(LOG), pins.get(OTHER)) == (A.public, B.public)
    pins.check(LOG, A.public)
    assert path.read_text().splitlines() == [
        key.format() for key in (*A.public.verifier_keys(LOG), *B.public.verifier_keys(OTHER))
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == [PINS_NAME]


def test_other_keys_are_refused_and_the_pins_stay(pins, path):
    pins.pin(LOG, A.public)
    before = path.read_bytes()
    half = PublicKeys(A.public.ed25519, B.public.ml_dsa_65)
    for keys in (B.public, half, PublicKeys(A.public.ed25519)):
        for refuse in (pins.check, pins.pin, lambda o, k: pins.renew(o, k, [])):
            with pytest.raises(SignatureInvalid, match="replaced"):
                refuse(LOG, keys)
    assert path.read_bytes() == before


def test_a_chain_of_changes_leads_to_the_new_keys(pins, path):
    path.parent.mkdir()
    path.write_text("# kept\n\n")
    pins.pin(LOG, A.public)
    pins.pin(OTHER, D.public)
    chain = [change(A, B), change(B, C)]
    pins.check(LOG, C.public, chain)
    assert pins.get(LOG) == A.public
    for keys, rotations in (
        (C.public, chain[:1]),
        (C.public, chain[1:]),
        (B.public, chain),
        (C.public, chain[::-1]),
        (C.public, [change(A, B, OTHER), change(B, C, OTHER)]),
        (C.public, [change(D, B), chain[1]]),
    ):
        with pytest.raises(SignatureInvalid):
            pins.check(LOG, keys, rotations)
        with pytest.raises(SignatureInvalid):
            pins.renew(LOG, keys, rotations)
    pins.renew(LOG, C.public, chain)
    assert (pins.get(LOG), pins.get(OTHER)) == (C.public, D.public)
    pins.check(LOG, C.public, chain)
    pins.renew(LOG, C.public, chain)
    assert path.read_text().startswith("# kept\n\n")
    assert len(path.read_text().splitlines()) == 6
    # The pin has moved on: the old keys are others now, and a branch from them leads nowhere.
    for keys, rotations in ((A.public, []), (D.public, [change(A, D)])):
        with pytest.raises(SignatureInvalid):
            pins.check(LOG, keys, rotations)


def test_a_log_of_one_algorithm_is_pinned_and_gains_the_second(pins):
    legacy = PublicKeys(A.public.ed25519)
    pins.pin(LOG, legacy)
    with pytest.raises(SignatureInvalid):
        pins.check(LOG, A.public)
    pins.renew(LOG, A.public, [hand_over(LOG, A, legacy, A)])
    assert pins.get(LOG) == A.public


def test_a_damaged_file_is_refused_and_never_taken_for_an_empty_one(pins, path):
    pins.pin(LOG, A.public)
    pins.pin(OTHER, B.public)
    good = path.read_text()
    lines = good.splitlines(keepends=True)
    witness = VerifierKey(LOG, COSIGNATURE, A.public.ed25519).format()
    for bad in (
        good[:-1],
        good[: len(lines[0])] + "junk\n" + good[len(lines[0]) :],
        good.replace("A", "B", 1),
        " " + good,
        lines[1] + "".join(lines[2:]),  # the Ed25519 key is gone
        good + lines[0],
        good + C.public.verifier_keys(LOG)[0].format() + "\n",
        good + witness + "\n",
    ):
        path.write_text(bad)
        for use in (lambda: pins.get(LOG), lambda: pins.pin(LOG, A.public), lambda: pins.check(LOG, A.public)):
            with pytest.raises(ConfigError):
                use()
        assert path.read_text() == bad
    for raw in (b"\xff\n", b"#" * limits.KEY_PINS_BYTES + b"\n"):
        path.write_bytes(raw)
        with pytest.raises(ConfigError):
            pins.get(LOG)
    path.write_text("")
    assert pins.get(LOG) is None


def test_a_file_that_others_may_write_is_refused(pins, path):
    pins.pin(LOG, A.public)
    for mode in (0o620, 0o602, 0o666):
        path.chmod(mode)
        with pytest.raises(ConfigError, match="written by others"):
            pins.check(LOG, A.public)
    path.chmod(0o644)  # public keys may be read
    pins.check(LOG, A.public)
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
        with pytest.raises(ConfigError, match="belongs to user"):
            pins.check(LOG, A.public)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(ChainError):
        pins.get(LOG)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="regular"):
        pins.get(LOG)


def test_what_cannot_be_read_back_is_not_pinned(pins, path, monkeypatch):
    for origin in ("#comment", "a b", "a+b", ""):
        with pytest.raises(ConfigError):
            pins.pin(origin, A.public)
    assert not path.exists()
    monkeypatch.setattr(limits, "KEY_PINS_BYTES", 100)
    with pytest.raises(ConfigError, match="limit"):
        pins.pin(LOG, A.public)


@pytest.mark.parametrize("what", [Crash(), OSError(errno.ENOSPC, "full")], ids=["crash", "full"])
def test_a_fault_leaves_the_old_pins_or_the_new_ones(tmp_path, what):
    counted = FaultyDisk()
    Pins(tmp_path / "counted" / PINS_NAME, fs=counted).pin(LOG, A.public)
    for at in range(counted.calls):
        path, disk = tmp_path / str(at) / PINS_NAME, FaultyDisk(at, what)
        with pytest.raises((Crash, ChainError)):
            Pins(path, fs=disk).pin(LOG, A.public)
        disk.shut()
        assert Pins(path).get(LOG) in (None, A.public)
        Pins(path).pin(LOG, A.public)
        assert os.listdir(path.parent) == [PINS_NAME]


def test_only_one_process_changes_the_file(pins, path, monkeypatch):
    pins.pin(LOG, A.public)
    monkeypatch.setattr(limits, "KEY_LOCK_WAIT_S", 0.05)
    with locked_folder(RealFiles(), str(path.parent)):
        for change_it in (lambda: pins.pin(OTHER, B.public), lambda: pins.renew(LOG, B.public, [change(A, B)])):
            with pytest.raises(ChainError, match="another process"):
                change_it()
        pins.check(LOG, A.public)
    assert pins.pin(OTHER, B.public)


RACE = """
import sys
from weftos.chain.signing.keyring import KeyPair
from weftos.chain.signing.pins import Pins
from weftos.errors import SignatureInvalid
number = int(sys.argv[2])
keys = KeyPair(bytes([number]) * 32, bytes([100 + number]) * 32).public
sys.stdin.readline()
try:
    print("pinned" if Pins(sys.argv[1]).pin("log", keys) else "there")
except SignatureInvalid:
    print("refused")
"""


def test_of_several_that_pin_at_once_one_wins(path):
    children = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    answers = [child.communicate(timeout=60)[0].strip() for child in children]
    assert sorted(answers) == ["pinned", "refused", "refused", "refused"]
    winner = answers.index("pinned")
    assert Pins(path).get("log") == KeyPair(bytes([winner]) * 32, bytes([100 + winner]) * 32).public
