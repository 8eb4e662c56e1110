"""Seals are made once per epoch, survive a crash, are found out when changed; and their keys are gone afterwards."""

from __future__ import annotations

import errno
import hashlib
import hmac
import itertools
import os
import stat
import struct

import msgspec
import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st
from logs_for_tests import Crash, FaultyDisk

from weftos import limits
from weftos.chain.records.canonical import decode_payload, encode_payload
from weftos.chain.signing.statement import U64_MAX, statement
from weftos.chain.statements import seals as module
from weftos.chain.statements.seals import Seal, SealState, verify_seals
from weftos.disk.secret_file import RealSecretFiles
from weftos.errors import ConfigError, SealGap, SealInvalid, StorageFailed, error_for_code

LOG = bytes(range(16))
ROOT = hashlib.sha256(b"root").digest()


def root(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def made(path, count, step=10):
    """A state, its verification key and ``count`` seals over ``step`` records each."""
    state, key = SealState.create(RealSecretFiles(), str(path), LOG)
    return state, key, [state.seal(n * step, step, root(n)) for n in range(count)]


@pytest.fixture
def path(tmp_path):
    (tmp_path / "keys").mkdir()
    return tmp_path / "keys" / "seal.state"


@pytest.fixture(scope="module")
def row(tmp_path_factory):
    """A verification key and twelve seals, for tests that only read."""
    return made(tmp_path_factory.mktemp("row") / "seal.state", 12)[1:]


# --- the mathematics --------------------------------------------------------------------------------------------------


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=80))
def test_the_derivation_is_that_of_rfc_5869(key, info):
    assert module._hkdf(key, info) == HKDF(SHA256(), 32, None, info).derive(key)


def test_a_seal_is_what_the_format_page_says(path):
    """Computed here from the page alone."""
    _, key, seals = made(path, 3)
    previous = bytes(32)
    for number, seal in enumerate(seals):
        key = HKDF(SHA256(), 32, None, b"exo/seal/evolve/v1").derive(key)
        mac_key = HKDF(SHA256(), 32, None, b"exo/seal/mac/v1").derive(key)
        fields = (
            b"exo/seal/v1",
            LOG,
            struct.pack("<Q", number + 1),
            struct.pack("<Q", number * 10),
            struct.pack("<Q", 10),
            root(number),
            previous,
        )
        message = b"".join(struct.pack("<I", len(field)) + field for field in fields)
        previous = hmac.new(mac_key, message, "sha256").digest()
        assert seal == Seal(LOG, number + 1, number * 10, 10, root(number), fields[-1], previous)


@given(st.lists(st.one_of(st.binary(max_size=9), st.integers(0, U64_MAX)), max_size=4), st.data())
def test_different_fields_give_different_bytes(fields, data):
    other = data.draw(st.lists(st.one_of(st.binary(max_size=9), st.integers(0, U64_MAX)), max_size=4))

    def plain(parts):
        return [struct.pack("<Q", part) if isinstance(part, int) else part for part in parts]

    assert (statement(b"t", *fields) == statement(b"t", *other)) == (plain(fields) == plain(other))
    for wrong in (-1, U64_MAX + 1):
        with pytest.raises(ValueError, match="64 bits"):
            statement(b"t", wrong)


# --- verification -----------------------------------------------------------------------------------------------------


def test_good_seals_are_good(row):
    key, seals = row
    result = verify_seals(key, seals, log_id=LOG)
    assert (result.seals, result.next_epoch, result.first_seq, result.end) == (12, 13, 0, 120)
    assert (result.log_id, result.last) == (LOG, seals[-1].mac)
    assert verify_seals(key, []).seals == 0
    repeated = [seal for seal in seals for _ in range(2)]
    assert verify_seals(key, repeated) == result


@given(st.data())
def test_every_changed_bit_is_found_and_named(row, data):
    key, seals = row
    at = data.draw(st.integers(0, 11))
    name = data.draw(st.sampled_from(Seal.__struct_fields__))
    value = getattr(seals[at], name)
    if isinstance(value, bytes):
        bit = data.draw(st.integers(0, len(value) * 8 - 1))
        changed = (int.from_bytes(value, "big") ^ 1 << bit).to_bytes(len(value), "big")
    else:
        changed = value ^ 1 << data.draw(st.integers(0, 63))
    forged = msgspec.structs.replace(seals[at], **{name: changed})
    with pytest.raises(SealInvalid) as caught:
        verify_seals(key, [*seals[:at], forged, *seals[at + 1 :]])
    assert type(caught.value) is SealInvalid
    assert caught.value.index == at
    assert caught.value.exit_code == 5
    assert caught.value.code == "chain.seal"


@given(st.sets(st.integers(0, 10), min_size=1))
def test_missing_seals_are_a_gap_and_not_a_forgery(row, away):
    key, seals = row
    with pytest.raises(SealGap) as caught:
        verify_seals(key, [seal for number, seal in enumerate(seals) if number not in away])
    assert (caught.value.epoch, caught.value.missing) == (min(away) + 1, len(away))
    assert caught.value.code == "chain.seal_gap"
    assert type(error_for_code("chain.seal_gap", "x")) is SealGap


def test_a_forgery_is_told_before_a_gap(row):
    key, seals = row
    forged = msgspec.structs.replace(seals[8], root=ROOT)
    with pytest.raises(SealInvalid) as caught:
        verify_seals(key, [*seals[:3], *seals[5:8], forged, *seals[9:]])
    assert (type(caught.value), caught.value.epoch) == (SealInvalid, 9)


@given(st.permutations(range(5)))
def test_the_order_counts(row, order):
    key, seals = row
    if order == sorted(order):
        verify_seals(key, [seals[n] for n in order])
    else:
        with pytest.raises(SealInvalid):
            verify_seals(key, [seals[n] for n in order])


def test_another_key_or_log_verifies_nothing(row, tmp_path):
    key, seals = row
    with pytest.raises(SealInvalid, match="epoch 1"):
        verify_seals(bytes(32), seals)
    with pytest.raises(SealInvalid, match="is about the log"):
        verify_seals(key, seals, log_id=bytes(16))
    with pytest.raises(SealInvalid, match="32 bytes"):
        verify_seals(key[:31], seals)
    far = msgspec.structs.replace(seals[0], epoch=limits.CHAIN_SEAL_GAP_EPOCHS + 2)
    with pytest.raises(SealInvalid, match="more than a gap"):
        verify_seals(key, [far])


def test_a_thief_rewrites_the_future_only(path):
    """With the state of epoch 6 in hand, nothing that was sealed before can be made again."""
    _, key, seals = made(path, 5)
    stolen = path.read_bytes()
    thief = SealState.open(RealSecretFiles(), str(path), LOG)
    forged = thief.seal(50, 7, ROOT)
    assert verify_seals(key, [*seals, forged]).end == 57
    for epoch in range(1, 6):
        fake = msgspec.structs.replace(seals[epoch - 1], root=ROOT)
        for secret in (stolen[32:64], module._evolve(stolen[32:64])):
            fake = msgspec.structs.replace(fake, mac=module._authenticate(secret, fake))
            with pytest.raises(SealInvalid):
                verify_seals(key, [*seals[: epoch - 1], fake])


def test_a_genuine_seal_of_another_branch_does_not_link(path, tmp_path):
    """Whoever puts back an old state and seals again makes two seals of one epoch; they do not fit together."""
    state, key, seals = made(path, 2)
    copy = path.read_bytes()
    third = state.seal(20, 5, ROOT)
    path.write_bytes(copy)
    other = SealState.open(RealSecretFiles(), str(path))
    branch = [other.seal(20, 6, ROOT), other.seal(26, 1, ROOT)]
    verify_seals(key, [*seals, *branch])
    with pytest.raises(SealInvalid, match="does not follow"):
        verify_seals(key, [*seals, third, branch[1]])


# --- making them ------------------------------------------------------------------------------------------------------


def test_ranges_leave_nothing_out_and_do_not_go_back(path):
    state, key, _ = made(path, 0)
    first = state.seal(5, 10, ROOT)
    before = path.read_bytes()
    for first_seq, size, text in (
        (16, 1, "leaves out"),
        (0, 14, "ends before"),
        (-1, 20, "64 bits"),
        (5, -1, "64 bits"),
    ):
        with pytest.raises(SealInvalid, match=text):
            state.seal(first_seq, size, ROOT)
    for wrong in (b"", bytes(31), "x" * 32, None):
        with pytest.raises(SealInvalid, match="root is 32 bytes"):
            state.seal(15, 1, wrong)
    with pytest.raises(SealInvalid, match="behind the last"):
        state.seal(15, U64_MAX, ROOT)
    with pytest.raises(SealInvalid, match="64 bits"):
        state.seal(True, 20, ROOT)
    assert path.read_bytes() == before
    second, third = state.seal(0, 15, ROOT), state.seal(15, 0, ROOT)
    assert verify_seals(key, [first, second, third]).end == 15


def test_the_state_is_private_and_never_overwritten(path):
    _, key, _ = made(path, 1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == [path.name]
    assert key not in path.read_bytes()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="never overwritten"):
        SealState.create(RealSecretFiles(), str(path), LOG)
    assert path.read_bytes() == before
    with pytest.raises(SealInvalid, match="16 bytes"):
        SealState.create(RealSecretFiles(), str(path) + "2", b"short")
    with pytest.raises(StorageFailed):
        SealState.create(RealSecretFiles(), str(path.parent / "none" / "x"), LOG)


def test_a_state_that_cannot_be_trusted_is_refused(path):
    with pytest.raises(ConfigError, match="no seal state"):
        SealState.open(RealSecretFiles(), str(path))
    made(path, 2)
    with pytest.raises(SealInvalid, match="seals the log"):
        SealState.open(RealSecretFiles(), str(path), bytes(16))
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="read by others"):
        SealState.open(RealSecretFiles(), str(path))
    path.chmod(0o600)
    good = path.read_bytes()
    for bad in (b"", good[:-1], good + b"x", good[:40] + bytes([good[40] ^ 1]) + good[41:], bytes(len(good))):
        path.write_bytes(bad)
        with pytest.raises(SealInvalid, match="damaged"):
            SealState.open(RealSecretFiles(), str(path))
        assert path.read_bytes() == bad
    body = b"exoseal9" + good[8:-32]
    path.write_bytes(body + hashlib.sha256(body).digest())
    with pytest.raises(SealInvalid, match="another version"):
        SealState.open(RealSecretFiles(), str(path))
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(StorageFailed):
        SealState.open(RealSecretFiles(), str(path))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="no regular file"):
        SealState.open(RealSecretFiles(), str(path))


def test_two_owners_are_noticed(path):
    one, key, seals = made(path, 1)
    two = SealState.open(RealSecretFiles(), str(path))
    seals.append(two.seal(10, 1, ROOT))
    for _ in range(2):
        with pytest.raises((SealInvalid, StorageFailed), match="somebody else"):
            one.seal(10, 2, ROOT)
    seals.append(two.seal(11, 1, ROOT))
    assert verify_seals(key, seals).seals == 3


def test_the_old_key_is_overwritten_where_it_was(path):
    state, _, _ = made(path, 0)
    for number in range(3):
        old = os.open(path, os.O_RDONLY)
        secret = path.read_bytes()[32:64]
        try:
            state.seal(number, 1, ROOT)
            assert os.fstat(old).st_nlink == 0
            content = os.pread(old, 4096, 0)
            assert content == bytes(len(content))
            assert len(content) > 64
        finally:
            os.close(old)
        assert secret not in path.read_bytes()


@given(st.integers(1, U64_MAX), st.integers(0, U64_MAX), st.integers(0, 9), st.binary(min_size=32, max_size=32))
def test_a_payload_keeps_a_seal(epoch, first_seq, size, digest):
    first_seq = min(first_seq, U64_MAX - size)
    seal = Seal(LOG, epoch, first_seq, size, digest, digest, digest)
    assert Seal.from_payload(decode_payload(encode_payload(seal.to_payload()))) == seal


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": True},
        {"epoch": 0},
        {"epoch": "1"},
        {"more": 1},
        {"mac": b"x"},
        {"size": 2**64},
        {"root": None},
    ],
)
def test_a_payload_of_another_form_is_refused(row, change):
    with pytest.raises(SealInvalid):
        Seal.from_payload({**row[1][0].to_payload(), **change})
    for name in row[1][0].to_payload():
        short = row[1][0].to_payload()
        del short[name]
        with pytest.raises(SealInvalid):
            Seal.from_payload(short)


# --- every call fails -------------------------------------------------------------------------------------------------


class FaultySecrets(FaultyDisk):
    """The faulty disk with the two calls of secret files; after a crash nothing is done any more."""

    dead = False

    def _step(self, name):
        if self.dead:
            raise Crash
        error = super()._step(name)
        self.dead = isinstance(error, Crash)
        return error

    def link(self, source, target):
        self._check("link")
        os.link(source, target)
        self.synced[target] = self.synced.get(source, 0)
        self.unsynced_names.append((os.path.dirname(target), lambda: os.path.exists(target) and os.unlink(target)))

    def rename(self, source, target):
        # Another name keeps the replaced file itself, not a copy: what is overwritten is overwritten there as well.
        self._check("rename")
        shadow = f"{os.path.dirname(target)}-shadow-{self.calls}"
        os.link(target, shadow)
        os.rename(source, target)
        self.synced[target] = self.synced.pop(source)

        def undo():
            os.rename(target, source)
            os.link(shadow, target)

        self.unsynced_names.append((os.path.dirname(target), undo))

    def open_overwrite(self, path):
        self._check("open_overwrite")
        fd = os.open(path, os.O_WRONLY)
        self.paths[fd] = path
        self.synced.setdefault(path, os.path.getsize(path))
        return fd

    def close(self, fd):
        self.paths.pop(fd, None)
        os.close(fd)


def life(path, disk, handed, keys):
    """Make a state if there is none; seal three times. What was handed out is in ``handed``."""
    if os.path.exists(path):
        state = SealState.open(disk, str(path))
    else:
        state, key = SealState.create(disk, str(path), LOG)
        keys.append(key)
    if state.last and state.last not in handed:
        handed.append(state.last)
    for _ in range(3):
        seal = state.seal(state.last.end if state.last else 0, 10, ROOT)
        assert path.read_bytes()[24] == seal.epoch + 1
        handed.append(seal)


def secrets_left(path):
    """Content of all files in the folder, leftovers included."""
    return b"".join((path.parent / name).read_bytes() for name in os.listdir(path.parent))


def past_keys(key, epoch):
    every = [key]
    while len(every) < epoch:
        every.append(module._evolve(every[-1]))
    return every


def rehearsal(tmp_path):
    disk = FaultySecrets()
    (tmp_path / "rehearsal").mkdir()
    life(tmp_path / "rehearsal" / "s", disk, [], [])
    return disk.names


FAULTS = [OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "broken"), Crash()]


@pytest.mark.parametrize(("fault", "power"), [*itertools.product(FAULTS, [None]), (Crash(), 0.0), (Crash(), 0.5)])
def test_each_call_fails(tmp_path, fault, power):
    names = rehearsal(tmp_path)
    assert {"create", "write", "sync_file", "link", "rename", "sync_dir", "open_overwrite", "unlink"} <= set(names)
    for at, name in enumerate(names):
        path = tmp_path / f"{at}-{name}" / "s"
        path.parent.mkdir()
        handed: list = []
        keys: list = []
        disk = FaultySecrets(at, fault)
        with pytest.raises((StorageFailed, Crash)):
            life(path, disk, handed, keys)
        disk.shut()
        if power is not None:
            disk.lose_power(power)
        if not keys:
            # The verification key was never shown; what may be there has sealed nothing and makes room for a new state.
            if path.exists():
                for _ in range(2):
                    assert SealState.open(RealSecretFiles(), str(path)).epoch == 1
                path.unlink()
            life(path, FaultySecrets(), handed, keys)
            assert verify_seals(keys[0], handed).seals == 3
            assert os.listdir(path.parent) == ["s"]
            continue
        before = list(handed)
        life(path, FaultySecrets(), handed, keys)
        again = len(handed) - len(before) - 3
        assert again in (0, 1)
        result = verify_seals(keys[0], handed, log_id=LOG)
        assert result.next_epoch == len(handed) + 1
        assert os.listdir(path.parent) == ["s"]
        for secret in past_keys(keys[0], result.next_epoch):
            assert secret not in secrets_left(path)
        if again:
            with pytest.raises(SealGap) as caught:
                verify_seals(keys[0], [*before, *handed[-3:]])
            assert (caught.value.epoch, caught.value.missing) == (len(before) + 1, 1)


@pytest.mark.parametrize("power", [None, 0.0])
def test_each_call_of_the_mending_fails_too(tmp_path, power):
    """A crash in the middle of cleaning up after a crash, at every pair of places."""
    names = rehearsal(tmp_path)
    for at in range(len(names)):
        for further in range(6):
            path = tmp_path / f"{at}-{further}" / "s"
            path.parent.mkdir()
            handed: list = []
            keys: list = []
            disk = FaultySecrets(at, Crash())
            with pytest.raises(Crash):
                life(path, disk, handed, keys)
            if not keys:
                continue
            # The same disk: the power has not been lost yet, so nothing that was not synced is safe.
            disk.dead, disk.at = False, disk.calls + further
            with pytest.raises(Crash):
                life(path, disk, handed, keys)
            disk.shut()
            if power is not None:
                disk.lose_power(power)
            life(path, FaultySecrets(), handed, keys)
            result = verify_seals(keys[0], handed)
            assert os.listdir(path.parent) == ["s"]
            for secret in past_keys(keys[0], result.next_epoch):
                assert secret not in secrets_left(path)


def test_a_failed_state_stays_failed(path):
    made(path, 1)
    disk = FaultySecrets(2, OSError(errno.EIO, "broken"))
    state = SealState.open(disk, str(path))
    for _ in range(2):
        with pytest.raises(StorageFailed, match="broken"):
            state.seal(10, 1, ROOT)
    state = SealState.open(RealSecretFiles(), str(path))
    assert (state.epoch, state.last.epoch) == (2, 1)


def test_leftovers_without_the_state_are_left_alone(path):
    """Nobody can say whether they are its past or all that is left of it."""
    made(path, 1)
    path.rename(f"{path}.old")
    with pytest.raises(ConfigError):
        SealState.open(RealSecretFiles(), str(path))
    assert os.path.getsize(f"{path}.old") > 0
    assert any((path.parent / "seal.state.old").read_bytes())
