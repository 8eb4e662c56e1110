"""Attacks by somebody who has stolen every key of the machine, the sealing key of today included."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from forged_logs import Forger, Target, note, weaver_verify

from weftos import chain
from weftos.chain.signing.checkpoint import Checkpoint, log_origin
from weftos.chain.statements.seal_keys import format_seal_key
from weftos.chain.statements.seals import SEAL_KIND, Seal, SealState, newest_seal
from weftos.chain.verification.verify_seals import SealCheck
from weftos.disk.secret_file import RealSecretFiles
from weftos.merkle.frontier import Frontier, leaf_hash

encode = msgspec.msgpack.Encoder().encode


@dataclass
class Sealed:
    """A log with four seals, one behind each five notes, and what the operator took away."""

    target: Target
    state: Path
    key: bytes
    seals: list[int]

    @classmethod
    def build(cls, folder: Path) -> Sealed:
        target = Target(folder / "chain", folder / "keys")
        seals = []
        with target.open() as writer:
            state, key = SealState.create(RealSecretFiles(), str(folder / "seal.state"), writer.log_id)
            for number in range(20):
                writer.append(note(number))
                if number % 5 == 4:
                    made = writer.checkpoint()
                    payload = state.seal(0, made.size, made.root).to_payload()
                    seals.append(writer.append(chain.NewEvent("chain", SEAL_KIND, payload)).seq)
        return cls(target, folder / "seal.state", key, seals)

    def found(self, *keys: bytes) -> list[tuple[str, int]]:
        check = SealCheck(keys or (self.key,), newest_seal(str(self.state)))
        report = chain.verify(self.target.home, keys=self.target.public, seals=check)
        return [(one.code, one.seq) for one in report.errors]

    def status(self) -> int:
        path = self.target.home.parent / "seal.key"
        path.write_text(f"# kept elsewhere\n\n{format_seal_key(self.log_id, self.key)}\n")
        keys = path.with_name("public.txt")
        keys.write_text("".join(f"{key.format()}\n" for key in self.target.public.verifier_keys(self.target.origin)))
        return weaver_verify(self.target.home, "--key", str(keys), "--seal-key", str(path))[0]

    @property
    def log_id(self) -> bytes:
        return next(iter(chain.read(self.target.home))).header.log_id

    def sign_again(self) -> None:
        """Whoever has the signing keys signs whatever lies there."""
        tree = Frontier()
        tree.extend([leaf_hash(record.header_bytes) for record in chain.read(self.target.home)])
        checkpoint = Checkpoint(log_origin(self.log_id), tree.size, tree.root())
        self.target.checkpoint.write_bytes(self.target.signer.sign(checkpoint))


@pytest.fixture
def sealed(tmp_path):
    return Sealed.build(tmp_path)


def rewrite(sealed, at):
    forger = Forger(sealed.target.segment)
    forger.set_payload(at, encode({"n": 666}), with_hash=True)
    forger.relink(at + 1)
    forger.write()
    sealed.sign_again()


def test_a_sealed_log_verifies(sealed):
    assert sealed.found() == []
    report = chain.verify(sealed.target.home, seals=SealCheck([sealed.key]))
    assert report.checks.seals is True
    assert (report.seals.seals, report.seals.rows, report.seals.next_epoch) == (4, 1, 5)
    assert report.seals.sealed == sealed.seals[-1]
    assert chain.verify(sealed.target.home).checks.seals is None
    assert sealed.status() == 0
    assert [code for code, _ in sealed.found(bytes(32))] == ["seal_invalid"]


def test_attack_33_yesterday_rewritten_with_all_keys_of_today(sealed):
    rewrite(sealed, 3)
    assert chain.verify(sealed.target.home, keys=sealed.target.public).valid, "nothing but the seals can tell"
    assert sealed.found() == [("seal_root", seq) for seq in sealed.seals]
    assert sealed.status() == 5


def test_attack_33_what_is_not_sealed_yet_can_be_rewritten(sealed):
    with sealed.target.open() as writer:
        at = writer.append(note(100)).seq
    rewrite(sealed, at)
    assert sealed.found() == [], "the limit: nothing is promised behind the newest seal"


def test_attack_33_yesterday_sealed_again_with_the_stolen_key(sealed):
    """The thief has the key of epoch 5; with it he makes the seals of a rewritten log as well as he can."""
    rewrite(sealed, 3)
    forger = Forger(sealed.target.segment)
    stolen = SealState.open(RealSecretFiles(), str(sealed.state))
    stolen.epoch, stolen.last = 1, None
    previous = bytes(32)
    for epoch, seq in enumerate(sealed.seals, 1):
        tree = Frontier()
        tree.extend([leaf_hash(raw) for _, raw, _ in forger.records[:seq]])
        seal = forged_seal(stolen._key, sealed.log_id, epoch, seq, tree.root(), previous)
        previous = seal.mac
        forger.set_payload(seq, chain_payload(seal), with_hash=True)
        forger.relink(seq + 1)
    forger.write()
    sealed.sign_again()
    assert ("seal_invalid", sealed.seals[0]) in sealed.found()
    assert sealed.status() == 5


def forged_seal(key, log_id, epoch, size, root, previous):
    from weftos.chain.statements import seals

    seal = Seal(log_id, epoch, 0, size, root, previous, bytes(32))
    return msgspec.structs.replace(seal, mac=seals._authenticate(key, seal))


def chain_payload(seal):
    from weftos.chain.records.canonical import encode_payload

    return encode_payload(seal.to_payload())


@pytest.mark.parametrize("gone", [[0], [1], [1, 2], [0, 1, 2]])
def test_attack_34_seals_are_removed(sealed, gone):
    forger = Forger(sealed.target.segment)
    for index in reversed(gone):
        del forger.records[sealed.seals[index]]
    forger.relink(sealed.seals[gone[0]])
    forger.write()
    sealed.sign_again()
    assert chain.verify(sealed.target.home, keys=sealed.target.public).valid
    codes = [code for code, _ in sealed.found()]
    assert "seal_gap" in codes
    assert sealed.status() == 5


@pytest.mark.parametrize("left", [0, 1, 2, 3])
def test_attack_34_the_newest_seals_are_removed(sealed, left):
    """The state of the machine still knows them; if one alone is missing, a crash could have been the reason."""
    forger = Forger(sealed.target.segment)
    del forger.records[sealed.seals[left] :]
    forger.write()
    sealed.sign_again()
    assert [code for code, _ in sealed.found()] == ([] if left == 3 else ["seal_gap"])


def test_attack_34_another_row_of_seals_is_begun(sealed, tmp_path):
    """The thief removes state and seals and seals what he wrote under a key of his own."""
    forger = Forger(sealed.target.segment)
    del forger.records[3:]
    forger.write()
    sealed.sign_again()
    sealed.state.unlink()
    shutil.rmtree(sealed.target.home / "tile")
    (sealed.target.keys / "high-water.json").unlink()
    with sealed.target.open() as writer:
        state, own = SealState.create(RealSecretFiles(), str(sealed.state), writer.log_id)
        writer.append(note(666))
        made = writer.checkpoint()
        seal = state.seal(0, made.size, made.root)
        seq = writer.append(chain.NewEvent("chain", SEAL_KIND, seal.to_payload())).seq
    assert sealed.found() == [("seal_invalid", seq)]
    assert sealed.found(sealed.key, own) == [], "an operator who made a second state has both keys"


def test_a_second_state_needs_both_keys(sealed):
    sealed.state.unlink()
    with sealed.target.open() as writer:
        state, second = SealState.create(RealSecretFiles(), str(sealed.state), writer.log_id)
        made = writer.checkpoint()
        seal = state.seal(0, made.size, made.root)
        writer.append(chain.NewEvent("chain", SEAL_KIND, seal.to_payload()))
        seq = writer.append(chain.NewEvent("chain", SEAL_KIND, seal.to_payload())).seq  # handed out again
    assert sealed.found(sealed.key, second) == []
    assert sealed.found(second, sealed.key) == []
    assert sealed.found(sealed.key) == [("seal_invalid", seq - 1)]
    report = chain.verify(sealed.target.home, seals=SealCheck([sealed.key, second]))
    assert (report.seals.rows, report.seals.seals, report.seals.next_epoch) == (2, 5, 2)


def test_a_log_without_seals_is_not_what_its_key_promises(tmp_path):
    target = Target.build(tmp_path)
    report = chain.verify(target.home, seals=SealCheck([bytes(32)]))
    assert [one.code for one in report.errors] == ["seal_gap"]
