"""Attacks 10 to 13 and 21: folders are put back or removed, keys replaced, signatures left out, two histories shown.

What the log's own files cannot show (they were sound once) is found out by what lies elsewhere: the high-water mark
beside the keys, the pinned public keys, and the memory of witnesses. The numbers are those of docs/attacks.md.
"""

from __future__ import annotations

import shutil

import pytest
from forged_logs import Forger, Target, note, open_log, weaver_verify

from weftos import chain
from weftos.chain.records.canonical import encode_payload
from weftos.chain.signing.checkpoint import parse_text
from weftos.chain.signing.cosignature import CosignatureSigner
from weftos.chain.signing.note import parse_note
from weftos.chain.signing.pins import Pins
from weftos.chain.signing.rotation import Genesis
from weftos.chain.tiles.tile_tree import TileTree, root_at
from weftos.chain.verification.proof_file import check_proof, make_proof, parse_proof
from weftos.chain.writing.key_change import rotate_keys
from weftos.disk.clock import SystemClock
from weftos.errors import ChainCorrupted, ChainError, SignatureInvalid
from weftos.merkle.proofs import consistency_proof
from weftos.witness.folder import WitnessFolder
from weftos.witness.outcomes import Cosigned, Head, Refused
from weftos.witness.quorum import Agrees, Contradicted, Quorum, RolledBack, compare
from weftos.witness.state import WitnessState


class Witness:
    """A witness with a folder of its own; only its socket is left out."""

    def __init__(self, folder, number):
        self.signer = CosignatureSigner(f"witness/{number}", bytes([60 + number]) * 32, clock=SystemClock())
        self.folder = WitnessFolder(str(folder / f"witness-{number}"))
        self.state = WitnessState(self.folder, self.signer)

    @property
    def key(self):
        return self.signer.verifier

    def see(self, target, *, since=0):
        """Show it the checkpoint of a log, with a consistency proof from its tiles."""
        note_ = target.checkpoint.read_bytes()
        size = parse_text(parse_note(note_).text).size
        self.state.pin(target.origin, target.public)
        proof = consistency_proof(since, size, TileTree(str(target.home), size).node) if since else []
        return self.state.add_checkpoint(since, proof, note_)

    def head(self, origin):
        answer = self.state.head(origin)
        assert isinstance(answer, Head)
        return answer.note


@pytest.fixture
def witnesses(tmp_path):
    made = [Witness(tmp_path, number) for number in (1, 2, 3)]
    yield made
    for one in made:
        one.folder.close()


def held_against(target, *witnesses):
    note_ = target.checkpoint.read_bytes()
    size = parse_text(parse_note(note_).text).size
    return compare(
        note_,
        {one.key: one.head(target.origin) for one in witnesses},
        target.public.verifier_keys(target.origin),
        target.origin,
        root_at=lambda older: root_at(str(target.home), older, size),
    )


def grow(target, count=5, first=100):
    with target.open() as writer:
        for number in range(first, first + count):
            writer.append(note(number))


def put_back(source, place):
    shutil.rmtree(place)
    shutil.copytree(source, place)


# --- 10: an older state of the folder ---------------------------------------------------------------------------------


def test_attack_10_the_log_put_back(target, tmp_path):
    shutil.copytree(target.home, tmp_path / "older")
    grow(target)
    put_back(tmp_path / "older", target.home)
    assert target.found() == [], "by itself the older state is as good as it was"
    with pytest.raises(
        ChainCorrupted, match="rolled back: the checkpoint says 12 records, 17 were signed for"
    ) as caught:
        target.open()
    assert (caught.value.code, caught.value.exit_code) == ("chain.corrupted", 5)


def test_attack_10_the_log_and_its_keys_put_back(target, tmp_path, witnesses):
    for place in ("chain", "keys"):
        shutil.copytree(tmp_path / place, tmp_path / f"older-{place}")
    grow(target)
    assert all(isinstance(one.see(target), Cosigned) for one in witnesses)
    assert isinstance(held_against(target, *witnesses), Agrees)
    for place in ("chain", "keys"):
        put_back(tmp_path / f"older-{place}", tmp_path / place)
    assert target.found() == []
    for one in witnesses:
        found = held_against(target, one)
        assert isinstance(found, RolledBack), "one honest witness is enough"
        assert (found.size, found.witness) == (17, one.key.name)
    # And it cannot go on another way from there: no witness cosigns what it has to show.
    grow(target, 7, first=500)
    assert isinstance(held_against(target, *witnesses), Contradicted)
    answers = [one.see(target, since=17) for one in witnesses]
    assert [answer.code for answer in answers if isinstance(answer, Refused)] == ["proof"] * 3


# --- 11: no log any more ----------------------------------------------------------------------------------------------


def test_attack_11_the_log_is_deleted(target):
    shutil.rmtree(target.home)
    with pytest.raises(ChainCorrupted, match="is gone") as caught:
        target.open()
    assert caught.value.exit_code == 5
    assert not target.home.exists() or not list(target.home.glob("*.log")), "no log was begun in its place"
    with pytest.raises(ChainError, match="there is no log"):
        chain.verify(target.home)
    assert weaver_verify(target.home)[0] == 1


def test_attack_11_the_segments_are_deleted(target):
    target.segment.unlink()
    with pytest.raises(ChainCorrupted):
        target.open()
    with pytest.raises(ChainCorrupted):
        chain.verify(target.home)
    assert not target.segment.exists()


def test_attack_11_a_segment_in_the_middle_is_deleted(tmp_path):
    target = Target(tmp_path / "chain", tmp_path / "keys")
    with target.open(segment_bytes=1) as writer:
        while writer.statistics().segments < 4:
            writer.append(chain.NewEvent("agent:7", "app.note", {"x": "x" * 500}))
    (target.home / "00000002.log").unlink()
    errors = target.report().errors
    assert ("missing_segment", "00000002.log") in {(one.code, one.file) for one in errors}
    with pytest.raises(ChainCorrupted, match="gone") as caught:
        target.open()
    assert caught.value.path.endswith("00000002.log")


# --- 12: other keys ---------------------------------------------------------------------------------------------------


def impostor(tmp_path, target):
    """The same history under the same name with one word changed, wholly signed by keys of the attacker."""
    forged = Target(tmp_path / "forged" / "chain", tmp_path / "forged" / "keys")
    forged.home.mkdir(parents=True, mode=0o700)
    shutil.copy(target.segment, forged.segment)
    forger = Forger(forged.segment)
    forger.set_payload(1, encode_payload(Genesis.of(forged.public).to_payload()), with_hash=True)
    forger.set_payload(6, encode_payload({"n": 666}), with_hash=True)
    forger.relink(2)
    forger.write()
    forged.open().close()
    return forged


def test_attack_12_keys_replaced_and_all_signed_again(target, tmp_path):
    forged = impostor(tmp_path, target)
    assert forged.origin == target.origin
    assert chain.verify(forged.home).valid, "a log that brings its own keys agrees with itself"
    report = chain.verify(forged.home, keys=target.public)
    assert (report.valid, report.signature) == (False, "bad")
    assert {one.code for one in report.errors} == {"signature_invalid"}
    with pytest.raises(ChainError, match="other keys"):
        open_log(forged.home, signer=target.signer)


def test_attack_12_pinned_keys_are_not_replaced(target, tmp_path):
    forged = impostor(tmp_path, target)
    pins = Pins(str(tmp_path / "known_logs"))
    assert pins.pin(target.origin, target.public)
    for call in (pins.pin, pins.check):
        with pytest.raises(SignatureInvalid, match="are pinned") as caught:
            call(target.origin, forged.public)
        assert (caught.value.code, caught.value.exit_code) == ("chain.signature", 5)
    assert pins.get(target.origin) == target.public
    # The command finds the pins of its instance by itself; here they lie where an instance has them.
    put_back(forged.home, target.home)
    status, errors = weaver_verify(target.home, "--key", str(pins.path))
    assert status == 5
    assert {code for code, _ in errors} == {"signature_invalid"}


def test_attack_12_key_files_replaced_under_the_log(target, tmp_path):
    other = tmp_path / "other-keys"
    chain.Signer.open(other)
    shutil.copy(target.keys / "high-water.json", other)
    put_back(other, target.keys)
    with pytest.raises(ChainError, match="is signed by other keys") as caught:
        target.open()
    assert (caught.value.code, caught.value.exit_code) == ("chain", 1)


def test_attack_12_a_proof_by_other_keys(target, tmp_path):
    forged = impostor(tmp_path, target)
    proof = parse_proof(make_proof(forged.home, 6).encode())
    check_proof(proof, forged.public, target.origin)
    with pytest.raises(SignatureInvalid):
        check_proof(proof, target.public, target.origin)


# --- 13: fewer signatures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("line", "algorithm"), [(0, "ed25519"), (1, "ml-dsa-65")])
def test_attack_13_a_signature_stripped(target, line, algorithm):
    lines = target.checkpoint.read_text().splitlines(keepends=True)
    signatures = [at for at, text in enumerate(lines) if text.startswith("—")]
    del lines[signatures[line]]
    target.checkpoint.write_text("".join(lines))
    assert target.found() == [("signature_invalid", -1)]
    assert target.weaver_verify() == (5, [("signature_invalid", -1)])
    with pytest.raises(SignatureInvalid, match=algorithm) as caught:
        target.open()
    assert (caught.value.algorithm, caught.value.exit_code) == (algorithm, 5)


def test_attack_13_a_broken_algorithm_alone_hands_nothing_over(target):
    """The other signature is copied from an older checkpoint: it is genuine, but not on this text."""
    old = target.checkpoint.read_text().splitlines(keepends=True)
    grow(target)
    new = target.checkpoint.read_text().splitlines(keepends=True)
    target.checkpoint.write_text("".join([*new[:-1], old[-1]]))
    assert target.found() == [("signature_invalid", -1)]
    with pytest.raises(SignatureInvalid, match="ml-dsa-65"):
        target.open()


def test_attack_13_retired_keys_sign_no_more(target):
    """What the old keys signed last is put in front of the newer records again."""
    old, signer = target.checkpoint.read_bytes(), target.signer
    first = signer.public
    with open_log(target.home, signer=signer) as writer:
        rotate_keys(writer, signer)
    target.checkpoint.write_bytes(old)
    report = chain.verify(target.home, keys=first)
    assert [one.code for one in report.errors] == ["signature_invalid"]


# --- 21: two histories ------------------------------------------------------------------------------------------------


def fork(target, tmp_path, records):
    """The same log, same keys, another continuation."""
    other = Target(tmp_path / "fork" / "chain", tmp_path / "fork" / "keys")
    shutil.copytree(target.home, other.home)
    shutil.copytree(target.keys, other.keys)
    grow(other, records, first=900)
    return other


def test_attack_21_two_views_of_one_size(target, tmp_path, witnesses):
    one, two, _ = witnesses
    other = fork(target, tmp_path, 5)
    grow(target, 5)
    assert target.found() == other.found() == [], "each view is sound by itself"
    assert isinstance(one.see(target), Cosigned)
    assert isinstance(two.see(other), Cosigned), "it knows nothing else yet"
    answer = one.see(other, since=17)
    assert isinstance(answer, Refused)
    assert answer.code == "split_view"
    kept = one.state.evidence(target.origin)
    assert kept.count == 1
    assert kept.oldest.first != kept.oldest.second
    assert b"witness/1" in kept.oldest.first
    found = held_against(target, one, two)
    assert isinstance(found, Contradicted)
    assert found.witness == "witness/2"
    # With two of two witnesses needed, neither view gets enough.
    quorum = Quorum((one.key, two.key), 2)
    assert not quorum.tally(one.head(target.origin)).is_cosigned
    assert not quorum.tally(two.head(target.origin)).is_cosigned


def test_attack_21_two_views_of_two_sizes(target, tmp_path, witnesses):
    one = witnesses[0]
    other = fork(target, tmp_path, 3)
    grow(target, 9)
    assert isinstance(one.see(other), Cosigned)
    answer = one.see(target, since=15)
    assert isinstance(answer, Refused)
    assert answer.code == "proof"
    assert isinstance(held_against(target, one), Contradicted), "the log's own root at the smaller size is another"
