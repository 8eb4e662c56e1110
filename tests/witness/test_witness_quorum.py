"""What several witnesses say: enough cosignatures, two views for two verifiers, logs and folders that were put back."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logs_of_witnesses import TestLog
from witness_processes import WitnessProcess

from weftos.chain.signing.checkpoint import Checkpoint, sign_checkpoint
from weftos.chain.signing.cosignature import CosignatureSigner, cosign
from weftos.chain.signing.note import Note, NoteSignature, VerifierKey, format_note, parse_note
from weftos.disk.clock import SystemClock
from weftos.errors import ChainCorrupted, ConfigError, SignatureInvalid
from weftos.witness.outcomes import Cosigned, Head
from weftos.witness.quorum import Agrees, Contradicted, Quorum, RolledBack, compare, newest_of


class At(SystemClock):
    def __init__(self, seconds: int) -> None:
        self.seconds = seconds

    def wall_ns(self) -> int:
        return self.seconds * 10**9


SIGNERS = [CosignatureSigner(f"witness/{n}", bytes([50 + n]) * 32, clock=At(1000 * n)) for n in (1, 2, 3)]
KEYS = [one.verifier for one in SIGNERS]
LOG = TestLog().grow(9)
LOG_KEYS = LOG.keys.verifier_keys(LOG.origin)


def cosigned(note, *numbers):
    for n in numbers:
        note = cosign(note, SIGNERS[n])
    return note


@pytest.mark.parametrize("numbers", [(), (0,), (2, 1), (0, 1, 2), (1, 1)])
def test_the_tally(numbers):
    tally = Quorum(tuple(KEYS), 2).tally(cosigned(LOG.note(), *numbers))
    assert tally.times == {KEYS[n].name: 1000 * (n + 1) for n in numbers}
    assert tally.wrong == {}
    assert tally.is_cosigned == (len(set(numbers)) >= 2)


def test_a_false_cosignature_does_not_spoil_the_others():
    note = parse_note(cosigned(LOG.note(), 0, 1))
    false = NoteSignature(KEYS[2].name, KEYS[2].key_id, bytes(72))
    tally = Quorum(tuple(KEYS), 2).tally(format_note(Note(note.text, (*note.signatures, false))))
    assert tally.is_cosigned
    assert list(tally.wrong) == [KEYS[2].name]
    tally = Quorum(tuple(KEYS), 2).tally(cosigned(LOG.note(), 0, 1), not_after=1500)
    assert not tally.is_cosigned
    assert list(tally.wrong) == [KEYS[1].name]
    with pytest.raises(ChainCorrupted):
        Quorum(tuple(KEYS), 1).tally(b"nonsense")


def test_an_answer_cannot_bring_in_lines_in_the_name_of_others():
    note = LOG.note()
    own = SIGNERS[0].sign(parse_note(note).text)
    stranger = NoteSignature(KEYS[1].name, KEYS[1].key_id, bytes(72))
    assert parse_note(Cosigned((stranger, own)).added_to(note, KEYS[0])).signatures[-1] == own
    assert len(parse_note(Cosigned((stranger, own)).added_to(note, KEYS[0])).signatures) == 3
    for lines in ((stranger,), (SIGNERS[0].sign(parse_note(LOG.note(3)).text),)):
        with pytest.raises(SignatureInvalid):
            Cosigned(lines).added_to(note, KEYS[0])


@pytest.mark.parametrize(
    ("keys", "needed"),
    [
        (KEYS, 0),
        (KEYS, 4),
        ([], 0),
        ([KEYS[0], KEYS[0]], 1),
        ([KEYS[0], VerifierKey("witness/other", "cosignature", KEYS[0].public_key)], 1),
        ([LOG_KEYS[0]], 1),
    ],
)
def test_a_quorum_that_means_nothing_is_refused(keys, needed):
    with pytest.raises(ConfigError):
        Quorum(tuple(keys), needed)


@given(st.data())
def test_compare_against_what_is_true(data):
    """Witnesses with heads of an honest log and of forks of it, and some that are worth nothing."""
    views = [LOG, LOG.fork(4, 5, "b"), LOG.fork(0, 9, "c")]
    own = data.draw(st.integers(0, 9))
    heads, good = {}, []
    for n, key in enumerate(KEYS):
        view, size = views[data.draw(st.sampled_from([0, 0, 0, 1, 2]))], data.draw(st.integers(0, 9))
        kind = data.draw(st.sampled_from(["good", "good", "good", "silent", "unsigned", "other", "noise"]))
        if kind == "good":
            heads[key] = cosigned(view.note(size), n)
            good.append((key.name, size, view.root(size)))
        elif kind == "unsigned":
            heads[key] = cosigned(view.note(size), (n + 1) % 3)
        elif kind == "other":
            heads[key] = cosigned(TestLog(seed=8).grow(9).note(size), n)
        elif kind == "noise":
            heads[key] = b"noise"
    knows = data.draw(st.booleans())
    found = compare(LOG.note(own), heads, LOG_KEYS, LOG.origin, root_at=LOG.root if knows else None)
    roots = {own: {LOG.root(own)}}
    for _, size, root in good:
        roots.setdefault(size, set()).add(root)
    lied = any(len(some) > 1 for some in roots.values())
    lied |= knows and any(size < own and LOG.root(size) != root for _, size, root in good)
    most = max((size for _, size, _ in good), default=0)
    newest = newest_of(heads, LOG_KEYS, LOG.origin)
    assert (newest.size if newest else 0) == most
    if lied:
        assert isinstance(found, Contradicted)
        sizes = {parse_note(note).text.split("\n")[1] for note in (found.evidence.first, found.evidence.second)}
        assert len(sizes) == 1 or knows
    elif most > own:
        assert isinstance(found, RolledBack)
        assert found.size == most
    else:
        assert isinstance(found, Agrees)
        assert found.witnesses == tuple(name for name, _, _ in good)
        assert found.witnesses + tuple(found.wrong) != () or not heads


def test_a_checkpoint_that_the_log_has_not_signed_is_not_compared():
    classic = LOG.pair.signers(LOG.origin)[:1]
    with pytest.raises(SignatureInvalid):
        compare(sign_checkpoint(LOG.checkpoint(), classic), {}, LOG_KEYS, LOG.origin)
    with pytest.raises(SignatureInvalid):
        other = sign_checkpoint(
            Checkpoint("weftos/log/" + "f" * 32, 0, bytes(32)), LOG.pair.signers("weftos/log/" + "f" * 32)
        )
        compare(other, {}, LOG_KEYS, LOG.origin)


# --- real processes ---------------------------------------------------------------------------------------------------


@pytest.fixture
def trio():
    with tempfile.TemporaryDirectory(prefix="wq-") as name:
        three = [WitnessProcess(Path(name) / f"w{n}", f"witness/{n}").start() for n in (1, 2, 3)]
        yield three
        for one in three:
            one.kill()


def spread(log, witnesses, old, new=None):
    """Have a checkpoint cosigned by as many as will."""
    note = log.note(new)
    for one in witnesses:
        one.client.tell_keys(log.origin, log.keys)
        answer = one.client.add_checkpoint(old, log.proof(old, new), note)
        if isinstance(answer, Cosigned):
            note = answer.added_to(note, one.key)
    return note


def heads_of(log, witnesses):
    answers = {one.key: one.client.head(log.origin) for one in witnesses}
    return {key: answer.note for key, answer in answers.items() if isinstance(answer, Head)}


def test_two_views_for_two_verifiers(trio):
    """Each verifier is shown a history of his own, and each history its own witness first. Only one finds enough."""
    honest, other = TestLog().grow(9), TestLog().grow(9).fork(5, 4)
    quorum = Quorum(tuple(one.key for one in trio), 2)
    one = spread(honest, [trio[0], trio[1], trio[2]], 0)
    two = spread(other, [trio[2], trio[1], trio[0]], 0)
    assert quorum.tally(one).is_cosigned
    assert not quorum.tally(two).is_cosigned
    assert [witness.client.evidence(honest.origin).count for witness in trio] == [1, 1, 1]
    keys = honest.keys.verifier_keys(honest.origin)
    heads = heads_of(honest, trio)
    assert isinstance(compare(one, heads, keys, honest.origin), Agrees)
    assert isinstance(compare(two, heads, keys, honest.origin), Contradicted)
    # A lie about something older is found by whoever has the log himself.
    longer = other.grow(3)
    assert isinstance(compare(longer.note(), heads, keys, honest.origin), Agrees)
    assert isinstance(compare(longer.note(), heads, keys, honest.origin, root_at=longer.root), Contradicted)


def test_witnesses_that_were_shown_different_views(trio):
    honest, other = TestLog().grow(9), TestLog().grow(9).fork(5, 4)
    spread(honest, trio[:1], 0)
    spread(other, trio[1:], 0)
    found = compare(honest.note(), heads_of(honest, trio), honest.keys.verifier_keys(honest.origin), honest.origin)
    assert isinstance(found, Contradicted)


def test_a_log_that_was_put_back(trio):
    log = TestLog().grow(9)
    keys = log.keys.verifier_keys(log.origin)
    spread(log, trio, 0, 4)
    spread(log, trio[:2], 4, 9)
    assert newest_of(heads_of(log, trio), keys, log.origin) == log.checkpoint(9)
    found = compare(log.note(4), heads_of(log, trio), keys, log.origin)
    assert isinstance(found, RolledBack)
    assert found.size == 9
    assert isinstance(compare(log.note(4), heads_of(log, trio[2:]), keys, log.origin), Agrees)
    # It cannot grow another way from there either.
    again = log.fork(4, 7, "z")
    assert not Quorum(tuple(one.key for one in trio), 2).tally(spread(again, trio, 4)).is_cosigned


def test_a_witness_that_was_put_back_is_outvoted(trio):
    """Its folder is that of yesterday: it signs another history from there, alone, and its head shows it."""
    log = TestLog().grow(9)
    keys = log.keys.verifier_keys(log.origin)
    spread(log, trio, 0, 4)
    memory = trio[0].folder / "memory"
    trio[0].stop()
    shutil.copytree(memory, trio[0].folder / "yesterday")
    trio[0].start()
    spread(log, trio, 4, 8)
    trio[0].stop()
    shutil.rmtree(memory)
    (trio[0].folder / "yesterday").rename(memory)
    trio[0].start()
    other = log.fork(4, 4)
    note = spread(other, trio, 4)
    tally = Quorum(tuple(one.key for one in trio), 2).tally(note)
    assert list(tally.times) == [trio[0].name]
    assert not tally.is_cosigned
    found = compare(log.note(), heads_of(log, trio), keys, log.origin)
    assert isinstance(found, Contradicted)
