"""Heads of a foreign log on this one: signed, growing, over every restart; and what contradicts them is kept."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weftos import chain
from weftos.chain.signing.checkpoint import Checkpoint, log_origin, open_checkpoint
from weftos.chain.signing.note import SignaturePolicy
from weftos.chain.signing.pins import Pins
from weftos.chain.statements.bridge import BRIDGE_KIND, SPLIT_VIEW_KIND, Bridge, KnownHead, check_head
from weftos.chain.tiles.tile_tree import TileTree
from weftos.errors import (
    ChainError,
    ConfigError,
    ProofInvalid,
    SignatureInvalid,
    SplitView,
    WeftError,
    error_for_code,
)
from weftos.merkle.proofs import consistency_proof
from weftos.service import protocol as p


class Peer:
    """Another instance's log and keys, with a second history signed by the same keys."""

    def __init__(self, folder):
        self.home, self.keys = folder / "chain", folder / "keys"
        folder.mkdir()
        self.signer = chain.Signer.open(self.keys)
        with chain.ChainWriter.open(self.home, boot_id=bytes(16), signer=self.signer) as writer:
            self.origin = log_origin(writer.log_id)
            self.notes = {}
            for number in range(30):
                writer.append(chain.NewEvent("a", "app.note", {"n": number}))
                made = writer.checkpoint()
                self.notes[made.size] = self.signer.sign(made)
        self.signer = chain.Signer.open(self.keys)
        self.public = self.signer.public

    def other(self, size):
        """A head of another history."""
        return self.signer.sign(Checkpoint(self.origin, size, size.to_bytes(32, "big")))

    def proof(self, old, new):
        return consistency_proof(old, new, TileTree(str(self.home), max(self.notes)).node)

    def pin(self, kernel):
        Pins(str(kernel.home / "known_logs")).pin(self.origin, self.public)


@pytest.fixture
def peer(kernel):
    kernel.start()
    return Peer(kernel.home / "peer")


def add(kernel, note, proof=None):
    reply = kernel.ask(p.AddBridge(note, proof))
    if isinstance(reply, p.Failed):
        raise error_for_code(reply.code, reply.message)
    return reply.values


def records(kernel, kind):
    return [record for record in chain.read(kernel.chain_dir) if record.kind == kind]


def test_heads_are_noted_and_survive_restarts(kernel, peer):
    with pytest.raises(ConfigError, match="no keys are pinned"):
        add(kernel, peer.notes[5])
    peer.pin(kernel)
    first = add(kernel, peer.notes[5])
    assert (first["size"], first["proven"], first["pair_id"]) == (5, False, peer.public.pair_id)
    assert add(kernel, peer.notes[5]) == first, "noted already"
    kernel.kill_service()
    kernel.start()
    second = add(kernel, peer.notes[12], peer.proof(5, 12))
    assert second["proven"]
    kernel.kill_service()
    (kernel.home / "chain.index" / "log.db").unlink()
    kernel.start()
    assert kernel.ask(p.ListBridges()).values["heads"] == [second]
    with pytest.raises(SplitView):
        add(kernel, peer.notes[5])
    assert kernel.stop_service() == 0
    found = [Bridge.from_payload(record.payload) for record in records(kernel, BRIDGE_KIND)]
    assert [(one.size, one.previous) for one in found] == [(5, None), (12, first["record"])]
    for one in found:
        head = open_checkpoint(one.note, peer.public.verifier_keys(peer.origin), SignaturePolicy(), peer.origin)
        assert (head.size, head.root) == (one.size, one.root)
    assert chain.verify(kernel.chain_dir).valid


def test_two_histories_are_found_and_the_evidence_is_kept_once(kernel, peer):
    peer.pin(kernel)
    add(kernel, peer.notes[10])
    for note, reason in ((peer.other(10), "root"), (peer.notes[9], "regress"), (peer.other(10), "root")):
        with pytest.raises(SplitView) as caught:
            add(kernel, note)
        assert (caught.value.code, caught.value.exit_code) == ("chain.split_view", 5)
        newest = kernel.ask(p.ListBridges()).values["heads"][0]
        assert newest["size"] == 10, reason
    assert add(kernel, peer.notes[11])["size"] == 11
    assert kernel.stop_service() == 0
    kept = records(kernel, SPLIT_VIEW_KIND)
    assert [record.payload["reason"] for record in kept] == ["root", "regress"]
    evidence = kept[0].payload
    keys, policy = peer.public.verifier_keys(peer.origin), SignaturePolicy()
    head = open_checkpoint(evidence["note"], keys, policy, peer.origin)
    (noted,) = (r for r in records(kernel, BRIDGE_KIND) if r.seq == evidence["known_record"])
    first = open_checkpoint(noted.payload["note"], keys, policy, peer.origin)
    assert head.size == first.size, "anybody with the public keys sees two signed roots of one size"
    assert head.root != first.root


def test_what_proves_nothing_is_refused(kernel, peer, tmp_path):
    peer.pin(kernel)
    stranger = Peer(tmp_path / "stranger")
    with pytest.raises(ConfigError):
        add(kernel, stranger.notes[4])
    Pins(str(kernel.home / "known_logs")).pin(stranger.origin, peer.public)
    with pytest.raises(SignatureInvalid):
        add(kernel, stranger.notes[4])
    broken = peer.notes[4].replace(b"\n4\n", b"\n5\n")
    with pytest.raises(SignatureInvalid):
        add(kernel, broken)
    for rubbish in (b"", b"rubbish", b"\xff" * 100, peer.notes[4][:100]):
        with pytest.raises(WeftError):
            add(kernel, rubbish)
    with pytest.raises(ProofInvalid):
        add(kernel, peer.notes[4], [])
    add(kernel, peer.notes[4])
    for proof in ([], [bytes(32)], [b"short"], peer.proof(5, 8)):
        with pytest.raises(ProofInvalid):
            add(kernel, peer.notes[8], proof)
    with pytest.raises(ProofInvalid):
        add(kernel, peer.other(8), peer.proof(4, 8))
    own = kernel.ask(p.MakeCheckpoint()).values["note"]
    with pytest.raises(ChainError, match="this very log"):
        add(kernel, own)
    assert kernel.ask(p.ListBridges()).values["heads"][0]["size"] == 4
    assert kernel.stop_service() == 0
    assert len(records(kernel, BRIDGE_KIND)) == 1
    assert records(kernel, SPLIT_VIEW_KIND) == []


def test_agents_may_not(kernel, peer):
    peer.pin(kernel)
    client = kernel.agent(1).client()
    for request in (p.AddBridge(peer.notes[4]), p.ListBridges()):
        reply = client.submit(request)
        with pytest.raises(WeftError, match="only the kernel"):
            reply.result()


def test_evidence_cannot_be_taken_away(kernel, peer):
    peer.pin(kernel)
    record = add(kernel, peer.notes[4])["record"]
    reply = kernel.ask(p.Redact(record, "wanted", "me"))
    assert (reply.code, "cannot be verified" in reply.message) == ("chain.append_refused", True)


@pytest.fixture(scope="module")
def model_peer(tmp_path_factory):
    return Peer(tmp_path_factory.mktemp("model") / "peer")


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(3, 12), st.sampled_from(("true", "other")), st.booleans()), max_size=12))
def test_any_row_of_heads_against_a_model(model_peer, steps):
    """The model: a head is taken if it is larger and its proof right; noted if equal; evidence otherwise."""
    peer, known, before = model_peer, None, ""
    for size, history, with_proof in steps:
        note = peer.notes[size] if history == "true" else peer.other(size)
        proof = peer.proof(known.size, size) if with_proof and known is not None and size > known.size else None
        same = known is not None and size == known.size
        contradicts = known is not None and (size < known.size or (same and history != before))
        if contradicts:
            with pytest.raises(SplitView):
                check_head(note, peer.origin, peer.public, known, proof)
        elif proof is not None and {before, history} != {"true"}:
            with pytest.raises(ProofInvalid):
                check_head(note, peer.origin, peer.public, known, proof)
        else:
            found = check_head(note, peer.origin, peer.public, known, proof)
            assert (found is None) == same
            if found is not None:
                assert Bridge.from_payload(found.to_payload()) == found
                known, before = KnownHead(7, found.size, found.root), history
