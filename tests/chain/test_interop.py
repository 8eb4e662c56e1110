"""Programs of others agree with ours: two packages that know nothing of us, and a reader written from the formats.

pymerkle and proofbundle are on no path of ours; the tests alone import them. The reader uses ``hashlib`` and an Ed25519
implementation, and nothing of this package.

What pymerkle cannot do: its proofs of consistency go down to single leaves, where those of RFC 9162 stop at complete
subtrees. So its proofs can be brought into the form of the RFC, but ours into its form only where both are the same.
proofbundle reads no tiles.
"""

from __future__ import annotations

import base64
import hashlib
import random
import struct
from pathlib import Path

import proofbundle.checkpoint as other_notes
import proofbundle.merkle as other_merkle
import proofbundle.tlogproof as other_proofs
import pymerkle
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from logs_for_tests import note, open_log

from weftos import chain
from weftos.chain.signing.checkpoint import log_origin
from weftos.chain.signing.cosignature import CosignatureSigner, cosign
from weftos.chain.signing.pins import Pins
from weftos.chain.verification.proof_file import check_proof, make_proof, parse_proof
from weftos.disk.clock import SystemClock
from weftos.errors import ProofInvalid
from weftos.merkle.frontier import EMPTY_ROOT, Frontier, leaf_hash, node_hash
from weftos.merkle.proofs import consistency_proof, inclusion_proof, verify_consistency, verify_inclusion

SIZES = 600
ENTRIES = [bytes([n % 251]) * (n % 7) + n.to_bytes(4, "big") for n in range(SIZES)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]


class Nodes:
    """Complete subtrees over ``LEAVES``, each computed once."""

    def __init__(self) -> None:
        self.levels = [LEAVES]
        while len(below := self.levels[-1]) > 1:
            self.levels.append([node_hash(a, b) for a, b in zip(below[0::2], below[1::2], strict=False)])

    def __call__(self, level: int, index: int) -> bytes:
        return self.levels[level][index]


NODE = Nodes()
ROOTS = [EMPTY_ROOT]
_frontier = Frontier()
for _leaf in LEAVES:
    _frontier.extend([_leaf])
    ROOTS.append(_frontier.root())


@pytest.fixture(scope="module")
def theirs():
    """With its prefixes for leaves and nodes on, which is its default, it is the tree of the RFC."""
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    tree.append_entries(ENTRIES)
    return tree


def places(size):
    rng = random.Random(size)
    return sorted({0, size // 2, size - 1, rng.randrange(size)})


# --- pymerkle -------------------------------------------------------------------------------------------------------


def test_every_root_is_that_of_pymerkle(theirs):
    assert [theirs.get_root(size) for size in range(1, SIZES + 1)] == ROOTS[1:]
    plain = pymerkle.InmemoryTree(algorithm="sha256", disable_security=True)
    plain.append_entries(ENTRIES[:5])
    assert plain.get_root() != ROOTS[5], "without the prefixes it is another tree, so the setting matters"


def test_inclusion_proofs_are_those_of_pymerkle(theirs):
    for size in range(1, SIZES + 1):
        for index in places(size):
            other = theirs.prove_inclusion(index + 1, size)
            ours = inclusion_proof(index, size, NODE)
            assert (other.path[0], other.path[1:]) == (LEAVES[index], ours)
            verify_inclusion(LEAVES[index], index, size, other.path[1:], ROOTS[size])
            made = pymerkle.proof.InclusionProof("sha256", True, size, index + 1, other.rule, [LEAVES[index], *ours])
            pymerkle.verify_inclusion(LEAVES[index], ROOTS[size], made, index + 1, size, "sha256")
            if size > 1:
                wrong = [*ours[:-1], bytes(32)]
                made = pymerkle.proof.InclusionProof(
                    "sha256", True, size, index + 1, other.rule, [LEAVES[index], *wrong]
                )
                with pytest.raises(pymerkle.InvalidProof):
                    pymerkle.verify_inclusion(LEAVES[index], ROOTS[size], made)
                with pytest.raises(ProofInvalid):
                    verify_inclusion(LEAVES[index], index, size, wrong, ROOTS[size])


def in_the_form_of_the_rfc(proof):
    """Fold the part of a pymerkle proof that lies behind the older tree, and put the first hash of that in front."""
    first = proof.subset.index(1)
    if first == 0:
        return proof.path[1:] if proof.prior_size == proof.size else proof.path
    folded = proof.path[0]
    for bit, sibling in zip(proof.rule, proof.path[1:first], strict=False):
        folded = node_hash(sibling, folded) if bit else node_hash(folded, sibling)
    of_older = proof.path[first]
    rest = [folded, *proof.path[first + 1 :]]
    return rest if proof.prior_size & (proof.prior_size - 1) == 0 else [of_older, *rest]


def test_consistency_proofs_of_pymerkle_show_the_same(theirs):
    same = 0
    for new in range(2, SIZES + 1):
        for old in {max(1, one) for one in places(new)}:
            other, ours = theirs.prove_consistency(old, new), consistency_proof(old, new, NODE)
            assert in_the_form_of_the_rfc(other) == ours
            verify_consistency(old, ROOTS[old], new, ROOTS[new], in_the_form_of_the_rfc(other))
            pymerkle.verify_consistency(ROOTS[old], ROOTS[new], other, old, new, "sha256")
            if other.subset.index(1) == 1:  # what is behind the older tree is one leaf first: the forms are alike
                is_power = old & (old - 1) == 0
                path = [ours[0], ROOTS[old], *ours[1:]] if is_power else [ours[1], ours[0], *ours[2:]]
                made = pymerkle.proof.ConsistencyProof("sha256", True, new, old, other.rule, other.subset, path)
                pymerkle.verify_consistency(ROOTS[old], ROOTS[new], made, old, new, "sha256")
                same += 1
    assert same > 100


# --- proofbundle ----------------------------------------------------------------------------------------------------


def test_proofs_of_proofbundle_both_ways():
    for new in [*range(1, 70), 255, 256, 257, SIZES]:
        entries = ENTRIES[:new]
        assert other_merkle.merkle_tree_hash(entries) == ROOTS[new]
        for index in places(new):
            path = inclusion_proof(index, new, NODE)
            assert other_merkle.inclusion_proof(entries, index) == path
            assert other_merkle.verify_inclusion(entries[index], index, new, path, ROOTS[new])
            assert not other_merkle.verify_inclusion(b"another", index, new, path, ROOTS[new])
            verify_inclusion(LEAVES[index], index, new, other_merkle.inclusion_proof(entries, index), ROOTS[new])
        for old in {max(1, one) for one in places(new)}:
            path = consistency_proof(old, new, NODE)
            assert other_merkle.consistency_proof(entries, old) == path
            assert other_merkle.verify_consistency(old, new, path, ROOTS[old], ROOTS[new])
            assert not other_merkle.verify_consistency(old, new, path, bytes(32), ROOTS[new])
            verify_consistency(old, ROOTS[old], new, ROOTS[new], other_merkle.consistency_proof(entries, old))


@pytest.fixture(params=[1, 40, 256, 700])
def logged(request, home):
    """A log of so many notes and its signer."""
    signer = chain.Signer.open(home.parent / "keys")
    with open_log(home, signer=signer, segment_bytes=64 * 1024) as writer:
        for number in range(request.param):
            writer.append(note(number))
        origin = log_origin(writer.log_id)
    return home, signer, origin


def test_checkpoints_verify_with_proofbundle(logged):
    home, signer, origin = logged
    text = (home / "checkpoint").read_text()
    key = signer.public.verifier_keys(origin)[0].format()
    found = other_notes.verify_checkpoint(text, key)
    report = chain.verify(home, keys=signer.public)
    assert (found["ok"], found["origin"], found["tree_size"]) == (True, origin, report.size)
    assert found["root"].hex() == report.root
    assert not other_notes.verify_checkpoint(text.replace(f"\n{report.size}\n", f"\n{report.size + 1}\n"), key)["ok"]
    stranger = chain.Signer.open(home.parent / "other").public.verifier_keys(origin)[0].format()
    assert not other_notes.verify_checkpoint(text, stranger)["ok"]


def test_cosigned_checkpoints_verify_with_proofbundle(logged):
    home, signer, origin = logged
    witnesses = [CosignatureSigner(f"witness/{n}", bytes([70 + n]) * 32, clock=SystemClock()) for n in (1, 2)]
    data = (home / "checkpoint").read_bytes()
    for one in witnesses:
        data = cosign(data, one)
    key = signer.public.verifier_keys(origin)[0].format()
    names = [one.verifier.format() for one in witnesses]
    assert other_notes.verify_witnessed_checkpoint(data.decode(), key, names, threshold=2, expected_origin=origin)["ok"]
    single = cosign((home / "checkpoint").read_bytes(), witnesses[0]).decode()
    assert not other_notes.verify_witnessed_checkpoint(single, key, names, threshold=2)["ok"]


def test_proof_files_verify_with_proofbundle(logged):
    home, signer, origin = logged
    key = signer.public.verifier_keys(origin)[0].format()
    records = list(chain.read(home))
    for seq in {0, 1, len(records) // 2, len(records) - 1}:
        proof = make_proof(home, seq)
        text = proof.encode().decode()
        entry = records[seq].header_bytes
        assert proof.entry == entry
        found = other_proofs.verify_tlog_proof(text, entry, key, expected_origin=origin)
        assert (found["ok"], found["index"], found["tree_size"]) == (True, seq, len(records))
        assert not other_proofs.verify_tlog_proof(text, entry + b"x", key)["ok"]
        if len(records) > 2:
            other = (seq + 1) % len(records)
            assert not other_proofs.verify_tlog_proof(text, records[other].header_bytes, key)["ok"]
        parsed = other_proofs.parse_tlog_proof(text)
        again = other_proofs.format_tlog_proof(seq, parsed["proof"], parsed["checkpoint"], extra=parsed["extra"])
        assert again == text, "the same bytes from both"
        check_proof(parse_proof(again.encode()), signer.public, origin)


# --- a reader of its own --------------------------------------------------------------------------------------------


def read_log_folder(folder: Path, verifier_key: str, opened: list[Path] | None = None) -> tuple[int, bytes]:
    """Verify a log folder from ``checkpoint`` and ``tile/`` alone; return size and root. Assertions are findings."""

    def content(path: Path) -> bytes:
        if opened is not None:
            opened.append(path)
        return path.read_bytes()

    def sha(*parts: bytes) -> bytes:
        return hashlib.sha256(b"".join(parts)).digest()

    def root_of(hashes: list[bytes]) -> bytes:
        if len(hashes) == 1:
            return hashes[0]
        half = 1
        while half * 2 < len(hashes):
            half *= 2
        return sha(b"\1", root_of(hashes[:half]), root_of(hashes[half:]))

    def name(index: int, width: int) -> str:
        groups = [f"{index % 1000:03d}"]
        while index := index // 1000:
            groups.insert(0, f"x{index % 1000:03d}")
        return "/".join(groups) + (f".p/{width}" if width < 256 else "")

    def tiles(kind: str, count: int):
        for index in range((count + 255) // 256):
            width = min(256, count - 256 * index)
            yield width, content(folder / "tile" / kind / name(index, width))

    # The note: text, empty line, one line for each signature.
    text, _, below = content(folder / "checkpoint").rpartition(b"\n\n")
    text += b"\n"
    origin, size_text, root_text = text.decode().split("\n")[:3]
    size, root = int(size_text), base64.b64decode(root_text, validate=True)
    key_name, key_id, encoded = verifier_key.split("+", 2)
    key = base64.b64decode(encoded)
    assert key_name == origin
    assert key[0] == 1, "the type of Ed25519"
    assert sha(key_name.encode(), b"\n", key)[:4].hex() == key_id
    lines = [line.removeprefix("\u2014 ").split(" ") for line in below.decode().splitlines()]
    signatures = [base64.b64decode(data) for who, data in lines if who == origin]
    [signature] = [one for one in signatures if one[:4].hex() == key_id]
    Ed25519PublicKey.from_public_bytes(key[1:]).verify(signature[4:], text)

    # The entries, the level of their hashes, and every level above.
    from_entries = []
    for width, data in tiles("entries", size):
        at = 0
        for _ in range(width):
            (length,) = struct.unpack_from(">H", data, at)
            from_entries.append(sha(b"\0", data[at + 2 : at + 2 + length]))
            at += 2 + length
        assert at == len(data)
    level, hashes = 0, from_entries
    while hashes:
        stored = b"".join(data for _, data in tiles(str(level), len(hashes)))
        assert stored == b"".join(hashes), f"level {level}"
        hashes = [root_of(hashes[at : at + 256]) for at in range(0, len(hashes) - 255, 256)]
        level += 1
    assert root_of(from_entries) == root
    return size, root


def pinned_line(path: Path, origin: str) -> str:
    return next(line for line in path.read_text().splitlines() if line.startswith(origin) and len(line) < 200)


def test_a_reader_written_from_the_formats_agrees(logged):
    home, signer, origin = logged
    Pins(str(home.parent / "known_logs")).pin(origin, signer.public)
    key = pinned_line(home.parent / "known_logs", origin)
    report = chain.verify(home)
    assert read_log_folder(home, key) == (report.size, bytes.fromhex(report.root))
    opened: list[Path] = []
    read_log_folder(home, key, opened)
    assert len(opened) >= 3
    for path in opened:
        kept = path.read_bytes()
        data = bytearray(kept)
        data[70 if path.name == "checkpoint" else len(data) // 3] ^= 1
        path.write_bytes(data)
        with pytest.raises((AssertionError, ValueError, InvalidSignature, struct.error)):
            read_log_folder(home, key)
        path.write_bytes(kept)
    assert read_log_folder(home, key)[0] == report.size


def test_the_reader_and_a_growing_log(home):
    signer = chain.Signer.open(home.parent / "keys")
    with open_log(home, signer=signer) as writer:
        key = signer.public.verifier_keys(log_origin(writer.log_id))[0].format()
        seen = [read_log_folder(home, key)]
        for count in (1, 253, 1, 1, 256, 300):
            writer.append_many([note(n) for n in range(count)])
            writer.checkpoint()
            seen.append(read_log_folder(home, key))
    assert [size for size, _ in seen] == [2, 3, 256, 257, 258, 514, 814]
    assert len(set(seen)) == len(seen)


@pytest.mark.slow
def test_the_reader_and_a_tree_of_three_levels(home):
    signer = chain.Signer.open(home.parent / "keys")
    with open_log(home, signer=signer) as writer:
        key = signer.public.verifier_keys(log_origin(writer.log_id))[0].format()
        for _ in range(66):
            writer.append_many([note(n) for n in range(1000)])
            writer.commit()
    size, root = read_log_folder(home, key)
    assert (size, root.hex()) == (66_002, chain.verify(home).root)
    assert (home / "tile" / "2" / "000.p" / "1").stat().st_size == 32
