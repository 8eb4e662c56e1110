"""Pairs of keys are made whole or not at all, kept private, handed over and erased."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from logs_for_tests import Crash, FaultyDisk

from weftos import limits
from weftos.chain.signing.bare_key import read_public_key
from weftos.chain.signing.keyring import KeyRing, locked_folder
from weftos.chain.signing.note import Ed25519NoteSigner, SignaturePolicy, parse_note, sign_note, verify_note
from weftos.chain.signing.rotation import PublicKeys, verify_rotation
from weftos.disk.secret_file import RealSecretFiles
from weftos.errors import ChainError, ConfigError

ORIGIN = "weftos/log/" + "0" * 32


class FaultyKeys(FaultyDisk):
    """The faulty disk with the two calls more that secrets need; after a crash nothing is done any more."""

    def __init__(self, at=-1, what=None):
        super().__init__(at, what)
        self.dead = False
        self.overwritten = {}

    def _step(self, name):
        if self.dead:
            raise Crash
        error = super()._step(name)
        self.dead = isinstance(error, Crash)
        return error

    def _later(self, path, undo):
        self.unsynced_names.append((os.path.dirname(path), undo))

    def link(self, source, target):
        self._check("link")
        os.link(source, target)
        self.synced[target] = self.synced[source]
        self._later(target, lambda: os.unlink(target))

    def rename(self, source, target):
        self._check("rename")
        assert not os.path.lexists(target)
        os.rename(source, target)
        self._later(target, lambda: os.rename(target, source))

    def unlink(self, path):
        # The file itself is kept aside, so that a loss of power can bring the name back.
        self._check("unlink")
        assert path not in self.overwritten  # else the name could be gone from the disk, and the secret still on it
        shadow = f"{os.path.dirname(path)}-shadow-{self.calls}"
        os.rename(path, shadow)
        self._later(path, lambda: os.rename(shadow, path))

    def open_overwrite(self, path):
        self._check("open_overwrite")
        self.overwritten[path] = Path(path).read_bytes()
        fd = os.open(path, os.O_WRONLY)
        self.paths[fd] = path
        self.synced.setdefault(path, os.path.getsize(path))
        return fd

    def sync_file(self, fd):
        super().sync_file(fd)
        self.overwritten.pop(self.paths[fd], None)

    def lose_power(self, keep):
        for path, data in self.overwritten.items():
            Path(path).write_bytes(data)
        super().lose_power(keep)


@pytest.fixture
def folder(tmp_path):
    before = set(os.listdir("/proc/self/fd"))
    yield tmp_path / "keys"
    assert set(os.listdir("/proc/self/fd")) == before


def secrets_in(folder):
    """Everything that is in the folder, as one string of bytes."""
    return b"".join(entry.read_bytes() for entry in sorted(folder.iterdir())) if folder.exists() else b""


def test_the_first_pair_is_made_private_and_signs(folder):
    ring = KeyRing(folder)
    assert ring.ids() == []
    assert not folder.exists()
    pair = ring.create_genesis()
    path = folder / f"pair-{pair.pair_id}.key"
    assert os.listdir(folder) == [path.name]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ring.ids() == [pair.pair_id]
    again = KeyRing(folder).load(pair.pair_id)
    assert again.public == pair.public
    keys = pair.public.verifier_keys(ORIGIN)
    note = parse_note(sign_note("text\n", again.signers(ORIGIN)))
    assert verify_note(note, keys, SignaturePolicy()) == keys
    with pytest.raises(ConfigError, match="already"):
        ring.create_genesis()
    assert ring.ids() == [pair.pair_id]


def test_what_others_may_use_is_refused(folder):
    ring = KeyRing(folder)
    pair = ring.create_genesis()
    path = folder / f"pair-{pair.pair_id}.key"
    uses = (lambda: ring.load(pair.pair_id), lambda: ring.rotate(ORIGIN), lambda: ring.upgrade(ORIGIN, pair.pair_id))
    for target, good, loosened in ((path, 0o600, (0o640, 0o604, 0o610)), (folder, 0o700, (0o750, 0o705, 0o711))):
        for mode in loosened:
            target.chmod(mode)
            for use in uses:
                with pytest.raises(ConfigError, match="others"):
                    use()
            assert stat.S_IMODE(target.stat().st_mode) == mode
        target.chmod(good)
    folder.chmod(0o755)
    with pytest.raises(ConfigError, match="others"):
        ring.ids()
    folder.chmod(0o700)
    assert os.listdir(folder) == [path.name]


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away needs root")
def test_what_belongs_to_another_user_is_refused(folder):
    ring = KeyRing(folder)
    pair = ring.create_genesis()
    for target in (folder / f"pair-{pair.pair_id}.key", folder):
        os.chown(target, 12345, -1)
        with pytest.raises(ConfigError, match="belongs to user 12345"):
            ring.load(pair.pair_id)
        os.chown(target, os.geteuid(), -1)
    assert ring.load(pair.pair_id)


def test_a_replaced_or_damaged_pair_is_refused_and_kept(folder, tmp_path):
    ring, other = KeyRing(folder), KeyRing(tmp_path / "other").create_genesis()
    pair = ring.create_genesis()
    path = folder / f"pair-{pair.pair_id}.key"
    good = path.read_bytes()
    for content in (b"", good[:-1], good + b"x", bytes(len(good)), good[:-1] + b"\0", other.encode()):
        path.write_bytes(content)
        with pytest.raises(ConfigError):
            ring.load(pair.pair_id)
        assert path.read_bytes() == content
    path.unlink()
    with pytest.raises(ConfigError, match="missing"):
        ring.load(pair.pair_id)
    path.symlink_to("/dev/zero")
    with pytest.raises(ChainError):
        ring.load(pair.pair_id)
    for bad in ("", "../" + "0" * 13, "G" * 16):
        with pytest.raises(ConfigError, match="no id"):
            ring.load(bad)
    folder_link = tmp_path / "link"
    folder_link.symlink_to(folder)
    with pytest.raises(ConfigError, match="no folder"):
        KeyRing(folder_link).ids()


def bare_seed(folder):
    """What version 0.1 left in the folder; returns the public half."""
    folder.mkdir(mode=0o700, exist_ok=True)
    seed = os.urandom(32)
    (folder / "chain.key").touch(mode=0o600)
    (folder / "chain.key").write_bytes(seed)
    public = Ed25519NoteSigner("x", seed).verifier.public_key
    (folder / "chain.pub").write_text(public.hex() + "\n")
    return public


def test_a_bare_seed_becomes_the_first_key(folder):
    public = bare_seed(folder)
    ring = KeyRing(folder)
    assert ring.ids() == []
    pair = ring.create_genesis()
    assert pair.public.ed25519 == public
    assert read_public_key(str(folder)) == public
    seed = (folder / "chain.key").read_bytes()
    legacy = PublicKeys(public)
    gain = ring.upgrade(ORIGIN, pair.pair_id)
    assert verify_rotation(gain, ORIGIN, legacy) == pair.public
    new, _ = ring.rotate(ORIGIN)
    ring.retire(pair.pair_id)
    assert sorted(os.listdir(folder)) == ["chain.pub", f"pair-{new.pair_id}.key"]
    assert seed not in secrets_in(folder)


def test_a_bare_seed_that_is_in_doubt_is_not_adopted(folder):
    bare_seed(folder)
    key = folder / "chain.key"
    for content, problem in ((b"x" * 32, "does not belong"), (b"x" * 31, "32 bytes"), (b"x" * 33, "32 bytes")):
        key.write_bytes(content)
        with pytest.raises(ConfigError, match=problem):
            KeyRing(folder).create_genesis()
        assert key.read_bytes() == content
    key.chmod(0o644)
    with pytest.raises(ConfigError, match="others"):
        KeyRing(folder).create_genesis()
    key.unlink()
    with pytest.raises(ConfigError, match="missing"):
        KeyRing(folder).create_genesis()
    (folder / "chain.pub").unlink()
    assert KeyRing(folder).create_genesis()


def test_a_pair_hands_over_and_is_erased(folder):
    ring = KeyRing(folder)
    old = ring.create_genesis()
    path = folder / f"pair-{old.pair_id}.key"
    with pytest.raises(ConfigError, match="only pair"):
        ring.retire(old.pair_id)
    new, rotation = ring.rotate(ORIGIN)
    assert verify_rotation(rotation, ORIGIN, old.public) == new.public
    assert ring.ids() == sorted([old.pair_id, new.pair_id])
    with pytest.raises(ConfigError, match="say which"):
        ring.rotate(ORIGIN)
    held = os.open(path, os.O_RDONLY)  # what a program that has the file open still sees
    try:
        ring.retire(old.pair_id)
        assert os.pread(held, 4096, 0) == bytes(len(old.encode()))
    finally:
        os.close(held)
    assert ring.ids() == [new.pair_id]
    assert os.listdir(folder) == [f"pair-{new.pair_id}.key"]
    with pytest.raises(ConfigError, match="missing"):
        ring.retire(old.pair_id)
    newest, second = ring.rotate(ORIGIN, new.pair_id)
    assert verify_rotation(second, ORIGIN, new.public) == newest.public


def test_only_one_process_changes_the_ring(folder, monkeypatch):
    ring = KeyRing(folder)
    pair = ring.create_genesis()
    monkeypatch.setattr(limits, "KEY_LOCK_WAIT_S", 0.05)
    with locked_folder(RealSecretFiles(), str(folder)), pytest.raises(ChainError, match="another process"):
        ring.rotate(ORIGIN)
    with locked_folder(RealSecretFiles(), str(folder)):
        assert ring.load(pair.pair_id).public == pair.public  # reading needs no lock
    assert ring.rotate(ORIGIN)


def steps(action, folder):
    """Count the changing calls of an action."""
    disk = FaultyKeys()
    action(KeyRing(folder, fs=disk))
    return disk.calls


def whole(folder):
    """Check that every pair in the ring can be read, and return their ids."""
    ring = KeyRing(folder)
    for pair_id in ring.ids():
        ring.load(pair_id)
    return ring.ids()


def clean(folder):
    names = set(os.listdir(folder))
    assert all(name.endswith(".key") or name == "chain.pub" for name in names), names


FAULTS = [
    pytest.param(lambda: Crash(), id="crash"),
    pytest.param(lambda: OSError(errno.ENOSPC, "full"), id="full"),
    pytest.param(lambda: OSError(errno.EIO, "broken"), id="broken"),
]


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_while_the_first_pair_is_made_leaves_none_or_a_whole_one(tmp_path, fault, power):
    for at in range(steps(KeyRing.create_genesis, tmp_path / "counted")):
        folder, disk = tmp_path / f"keys-{at}", FaultyKeys(at, fault())
        with pytest.raises((Crash, ChainError)):
            KeyRing(folder, fs=disk).create_genesis()
        disk.shut()
        if power:
            disk.lose_power(0)
        ids = whole(folder)
        assert len(ids) <= 1
        if not ids:
            KeyRing(folder).create_genesis()
        else:
            KeyRing(folder).rotate(ORIGIN)
        whole(folder)
        clean(folder)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_while_keys_change_leaves_the_old_pair_in_place(tmp_path, fault):
    def prepared(name):
        folder = tmp_path / name
        return folder, KeyRing(folder).create_genesis()

    counted, _ = prepared("counted")
    for at in range(steps(lambda ring: ring.rotate(ORIGIN), counted)):
        folder, old = prepared(f"keys-{at}")
        disk = FaultyKeys(at, fault())
        with pytest.raises((Crash, ChainError)):
            KeyRing(folder, fs=disk).rotate(ORIGIN)
        disk.shut()
        assert old.pair_id in whole(folder)
        for unused in set(whole(folder)) - {old.pair_id}:
            KeyRing(folder).retire(unused)
        new, rotation = KeyRing(folder).rotate(ORIGIN)
        assert verify_rotation(rotation, ORIGIN, old.public) == new.public
        assert whole(folder) == sorted([old.pair_id, new.pair_id])
        clean(folder)


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_erasing_that_was_interrupted_is_finished(tmp_path, fault, power):
    def prepared(name):
        folder = tmp_path / name
        bare_seed(folder)
        ring = KeyRing(folder)
        old = ring.create_genesis()
        return folder, old, ring.rotate(ORIGIN)[0]

    counted, first, _ = prepared("counted")
    for at in range(steps(lambda ring: ring.retire(first.pair_id), counted)):
        folder, old, new = prepared(f"keys-{at}")
        disk = FaultyKeys(at, fault())
        with pytest.raises((Crash, ChainError)):
            KeyRing(folder, fs=disk).retire(old.pair_id)
        disk.shut()
        if power:
            disk.lose_power(0)
        assert new.pair_id in whole(folder)
        ring = KeyRing(folder)
        if old.pair_id in ring.ids():
            ring.retire(old.pair_id)
        else:
            ring.rotate(ORIGIN, new.pair_id)  # any change finishes what was begun
        assert old.pair_id not in whole(folder)
        clean(folder)
        for seed in (old.encode()[-64:-32], old.encode()[-32:]):
            assert seed not in secrets_in(folder)


KILLED = """
import sys
from weftos.chain.signing.keyring import KeyRing
ring = KeyRing(sys.argv[1])
pair = ring.load(ring.ids()[0]) if ring.ids() else ring.create_genesis()
print(pair.pair_id, flush=True)
while True:
    new, _ = ring.rotate("log", pair.pair_id)
    ring.retire(pair.pair_id)
    pair = new
    print(pair.pair_id, flush=True)
"""


def test_a_process_that_is_killed_leaves_no_half_pair(folder):
    for lines in range(1, 9):
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        told = [child.stdout.readline() for _ in range(lines)]
        os.kill(child.pid, signal.SIGKILL)
        told += child.stdout.readlines()
        child.stdout.close()
        assert child.wait() == -signal.SIGKILL
        assert all(told)
        ids = whole(folder)
        assert 1 <= len(ids) <= 2
        for unused in ids[1:]:
            KeyRing(folder).retire(unused)
    KeyRing(folder).rotate(ORIGIN)
    clean(folder)
    assert len(whole(folder)) == 2
