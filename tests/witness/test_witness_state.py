"""A witness's decisions, one by one, and against a model over restarts and failures of every file call."""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from logs_of_witnesses import Crash, FailingFiles, TestLog

from weftos import limits
from weftos.chain.signing.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from weftos.chain.signing.cosignature import CosignatureSigner, cosignature_times
from weftos.chain.signing.keyring import KeyPair, hand_over
from weftos.chain.signing.note import Ed25519NoteSigner, SignaturePolicy
from weftos.disk.files import RealFiles
from weftos.errors import ChainCorrupted, ConfigError
from weftos.witness.folder import WitnessFolder
from weftos.witness.outcomes import Conflict, Cosigned, Head, Pinned, Refused
from weftos.witness.state import WitnessState

SIGNER = CosignatureSigner("witness/one", b"w" * 32)


class Setup:
    def __init__(self, path, **more) -> None:
        self.path, self.more, self.files = str(path), more, FailingFiles()
        self.folder: WitnessFolder | None = None
        self.open()

    def open(self) -> None:
        self.folder = WitnessFolder(self.path, fs=self.files)
        self.state = WitnessState(self.folder, SIGNER, **self.more)

    def close(self) -> None:
        if self.folder is not None:
            self.folder.close()
            self.folder = None

    def restart(self) -> None:
        self.close()
        self.open()


@pytest.fixture
def log():
    return TestLog().grow(8)


@pytest.fixture
def witness(tmp_path, log):
    setup = Setup(tmp_path / "w", logs={log.origin: log.keys})
    yield setup
    setup.close()


def code(answer):
    assert isinstance(answer, Refused), answer
    return answer.code


def test_cosigns_what_continues(witness, log):
    for old, new in [(0, 3), (3, 3), (3, 7), (7, 8)]:
        note = log.note(new)
        answer = witness.state.add_checkpoint(old, log.proof(old, new), note)
        assert isinstance(answer, Cosigned)
        whole = answer.added_to(note, SIGNER.verifier)
        assert list(cosignature_times(whole, [SIGNER.verifier])) == [SIGNER.verifier]
        head = witness.state.head(log.origin)
        assert isinstance(head, Head)
        keys = [*log.keys.verifier_keys(log.origin), SIGNER.verifier]
        policy = SignaturePolicy(frozenset(("ed25519", "ml-dsa-65", "cosignature")))
        assert open_checkpoint(head.note, keys, policy, log.origin) == log.checkpoint(new)


def test_refusals(witness, log):
    state = witness.state
    assert state.add_checkpoint(3, [], log.note(3)) == Conflict(0)
    assert isinstance(state.add_checkpoint(0, [], log.note(5)), Cosigned)
    assert state.add_checkpoint(3, log.proof(3, 8), log.note(8)) == Conflict(5)
    assert code(state.add_checkpoint(5, [], log.note(4))) == "regress"
    assert code(state.add_checkpoint(5, log.proof(4, 8), log.note(8))) == "proof"
    assert code(state.add_checkpoint(5, [], log.fork(3, 6).note())) == "proof"
    other = log.fork(3, 6)
    assert code(state.add_checkpoint(5, other.proof(5), other.note())) == "proof"
    assert code(state.add_checkpoint(5, [], b"nonsense")) == "malformed"
    assert code(state.add_checkpoint(5, [b"x"], log.note(8))) == "proof"
    assert code(state.add_checkpoint(5, [bytes(32)] * 64, log.note(8))) == "malformed"
    assert code(state.add_checkpoint(5, [], b"x" * (limits.WITNESS_NOTE_BYTES + 1))) == "malformed"
    stranger = TestLog(seed=9).grow(8)
    assert code(state.add_checkpoint(5, log.proof(5), stranger.note())) == "signature"
    assert code(state.add_checkpoint(0, [], TestLog(log_id=b"z" * 16).grow(2).note())) == "unknown_log"
    classic = Ed25519NoteSigner(log.origin, bytes([1]) * 32)
    assert code(state.add_checkpoint(5, log.proof(5), sign_checkpoint(log.checkpoint(), [classic]))) == "signature"
    assert witness.state.evidence(log.origin).count == 0
    assert isinstance(state.add_checkpoint(5, log.proof(5), log.note()), Cosigned)


def test_an_empty_log_has_one_root(witness, log):
    wrong = sign_checkpoint(Checkpoint(log.origin, 0, bytes(32)), log.pair.signers(log.origin))
    assert code(witness.state.add_checkpoint(0, [], wrong)) == "malformed"
    assert isinstance(witness.state.add_checkpoint(0, [], log.note(0)), Cosigned)
    assert isinstance(witness.state.add_checkpoint(0, [], log.note(2)), Cosigned)


@pytest.mark.parametrize("old_size", [5, 0, 77])
def test_a_split_view_is_kept_as_evidence(witness, log, old_size):
    witness.state.add_checkpoint(0, [], log.note(5))
    other = log.fork(3, 2)
    for _ in range(2):
        assert code(witness.state.add_checkpoint(old_size, [], other.note())) == "split_view"
    witness.restart()
    evidence = witness.state.evidence(log.origin)
    assert evidence.count == 1
    keys, policy = log.keys.verifier_keys(log.origin), SignaturePolicy()
    one = open_checkpoint(evidence.oldest.first, keys, policy, log.origin)
    two = open_checkpoint(evidence.oldest.second, keys, policy, log.origin)
    assert one.size == two.size == 5
    assert {one.root, two.root} == {log.root(5), other.root()}
    assert isinstance(witness.state.add_checkpoint(5, log.proof(5), log.note()), Cosigned)


def test_evidence_is_bounded_and_its_loss_refuses_all_the_same(witness, log):
    witness.state.add_checkpoint(0, [], log.note(5))
    witness.files.arm(0)
    assert "could not be written" in witness.state.add_checkpoint(5, [], log.fork(3, 2, "x").note()).reason
    witness.files.arm()
    for n in range(limits.WITNESS_EVIDENCE + 3):
        assert code(witness.state.add_checkpoint(5, [], log.fork(3, 2, f"f{n}-").note())) == "split_view"
    assert witness.state.evidence(log.origin).count == limits.WITNESS_EVIDENCE


def test_keys_are_pinned_on_first_use_and_change_by_rotation_only(tmp_path, log):
    witness = Setup(tmp_path / "w")
    state = witness.state
    assert code(state.add_checkpoint(0, [], log.note(2))) == "unknown_log"
    assert state.pin(log.origin, log.keys) == state.pin(log.origin, log.keys) == Pinned(log.keys.pair_id)
    assert isinstance(state.add_checkpoint(0, [], log.note(2)), Cosigned)
    thief, heir = KeyPair(b"t" * 32, b"u" * 32), KeyPair(b"h" * 32, b"i" * 32)
    assert code(state.pin(log.origin, thief.public)) == "keys"
    assert code(state.pin(log.origin, thief.public, [hand_over(log.origin, thief, log.keys, thief)])) == "keys"
    assert code(state.pin("elsewhere", log.keys)) == "malformed"
    rotation = hand_over(log.origin, log.pair, log.keys, heir)
    assert state.pin(log.origin, heir.public, [rotation]) == Pinned(heir.pair_id)
    witness.restart()
    old = log.note(4)
    log.pair = heir
    assert code(witness.state.add_checkpoint(2, log.proof(2, 4), old)) == "signature"
    assert isinstance(witness.state.add_checkpoint(2, log.proof(2, 4), log.note(4)), Cosigned)
    for n in range(limits.WITNESS_LOGS - 1):
        assert isinstance(witness.state.pin(TestLog(log_id=bytes([n + 1]) * 16).origin, log.keys), Pinned)
    assert code(witness.state.pin(TestLog(log_id=b"\xff" * 16).origin, log.keys)) == "unknown_log"
    witness.close()
    closed = Setup(tmp_path / "closed", trust_on_first_use=False)
    assert code(closed.state.pin(log.origin, log.keys)) == "unknown_log"
    closed.close()


def test_a_folder_has_one_witness_and_is_private(witness, tmp_path):
    with pytest.raises(ConfigError, match="another witness"):
        WitnessFolder(witness.path)
    os.mkdir(tmp_path / "open", 0o755)
    os.chmod(tmp_path / "open", 0o755)
    with pytest.raises(ConfigError, match="chmod 700"):
        WitnessFolder(str(tmp_path / "open"))


def test_a_damaged_or_foreign_folder_is_refused(witness, log):
    witness.state.add_checkpoint(0, [], log.note(5))
    witness.close()
    with pytest.raises(ChainCorrupted, match="not that of the witness's key"):
        folder = WitnessFolder(witness.path)
        try:
            WitnessState(folder, CosignatureSigner("witness/two", b"v" * 32))
        finally:
            folder.close()
    [name] = [name for name in os.listdir(witness.path) if name.endswith(".log")]
    path = os.path.join(witness.path, name)
    with open(path, "rb") as file:
        data = file.read()
    for at in range(0, len(data), 97):
        with open(path, "wb") as file:
            file.write(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        folder = WitnessFolder(witness.path)
        with pytest.raises(ChainCorrupted):
            folder.load()
        folder.close()
    with open(path, "wb") as file:
        file.write(data)
    witness.open()


class WitnessMachine(RuleBasedStateMachine):
    """Honest and lying logs at one witness, whose process and disk fail. What it cosigned must be one growing line."""

    @initialize()
    def begin(self) -> None:
        self.root = tempfile.mkdtemp(prefix="ww-")
        base = TestLog().grow(12)
        self.views = [base, base.fork(4, 8, "b"), base.fork(9, 3, "c"), base.fork(0, 12, "d")]
        self.witness = Setup(os.path.join(self.root, "w"), logs={base.origin: base.keys})
        self.origin = base.origin
        #: What has left the witness, in order.
        self.cosigned: list[tuple[int, bytes]] = []
        #: What a write that failed at its last step may have left on the disk since the last one that did not fail.
        self.maybe: set[tuple[int, bytes]] = set()

    def _newest(self) -> tuple[int, bytes]:
        answer = self.witness.state.head(self.origin)
        if isinstance(answer, Refused):
            return 0, self.views[0].root(0)
        keys = [*self.views[0].keys.verifier_keys(self.origin), SIGNER.verifier]
        found = open_checkpoint(answer.note, keys, SignaturePolicy(frozenset(("cosignature",))), self.origin)
        return found.size, found.root

    @rule(
        view=st.integers(0, 3),
        old=st.one_of(st.none(), st.integers(0, 12)),
        size=st.integers(0, 12),
        at=st.one_of(st.none(), st.integers(0, 6)),
        crash=st.booleans(),
        after=st.booleans(),
    )
    def submit(self, view, old, size, at, crash, after) -> None:
        log, files = self.views[view], self.witness.files
        before = self._newest()
        old_size = before[0] if old is None else old
        proof = log.proof(old_size, size) if old_size <= size else []
        note = log.note(size)
        if at is not None:
            files.arm(at, Crash() if crash else None, after=after)
        try:
            answer = self.witness.state.add_checkpoint(old_size, proof, note)
        except Crash:
            files.arm()
            self.maybe.add((size, log.root(size)))
            self.restart(before)
            return
        finally:
            files.arm()
        continues = size >= before[0] and log.root(before[0]) == before[1]
        match answer:
            case Cosigned():
                assert continues
                assert old_size == before[0]
                self.cosigned.append((size, log.root(size)))
                if (size, log.root(size)) != before:
                    self.maybe.clear()
            case Conflict():
                assert old_size != before[0] == answer.size
            case Refused(code="storage"):
                assert at is not None
                assert continues
                self.maybe.add((size, log.root(size)))
            case Refused(code="split_view"):
                assert size == before[0]
                assert log.root(size) != before[1]
            case Refused(code="regress"):
                assert size < before[0]
            case Refused(code="proof"):
                assert not continues
            case _:
                raise AssertionError(answer)
        if not isinstance(answer, Cosigned):
            assert self._newest() == before
            assert old_size != before[0] or not continues or at is not None

    @rule()
    def stop_and_start(self) -> None:
        self.restart(self._newest())

    def restart(self, before: tuple[int, bytes]) -> None:
        self.witness.restart()
        assert self._newest() in {before, *self.maybe}
        self.maybe.clear()

    @invariant()
    def one_growing_line(self) -> None:
        sizes = [size for size, _ in self.cosigned]
        assert sizes == sorted(sizes)
        if self.cosigned:
            size, root = self.cosigned[-1]
            view = next(one for one in self.views if one.root(size) == root)
            assert all(view.root(n) == seen for n, seen in self.cosigned)
            newest = self._newest()
            assert newest[0] >= size
            assert any(one.root(newest[0]) == newest[1] and one.root(size) == root for one in self.views)

    def teardown(self) -> None:
        if hasattr(self, "witness"):
            self.witness.close()
            shutil.rmtree(self.root)


TestWitnessMachine = WitnessMachine.TestCase
TestWitnessMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@pytest.mark.slow
def test_machine_for_long() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        WitnessMachine, settings=settings(max_examples=500, stateful_step_count=40, deadline=None)
    )


def test_no_cosignature_without_a_synced_file(witness, log):
    """The order of calls: file synced, renamed, folder synced, and only then the answer."""
    order: list[str] = []

    class Watching(RealFiles):
        def sync_file(self, fd):
            order.append("sync_file")
            super().sync_file(fd)

        def rename(self, source, target):
            order.append("rename")
            super().rename(source, target)

        def sync_dir(self, path):
            order.append("sync_dir")
            super().sync_dir(path)

    witness.close()
    folder = WitnessFolder(witness.path, fs=Watching())
    state = WitnessState(folder, SIGNER)
    # What was renamed before a kill must be on the disk before an answer depends on it.
    assert order == ["sync_dir"]
    order.clear()
    assert isinstance(state.add_checkpoint(0, [], log.note(3)), Cosigned)
    assert order == ["sync_file", "rename", "sync_dir"]
    folder.close()
