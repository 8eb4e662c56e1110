"""Attacks on a log whose beginning may be pruned, and on its archive; the numbers are those of docs/attacks.md."""

from __future__ import annotations

import gzip
import os
import shutil

import msgspec
import pytest
from forged_logs import note, open_log, weaver_verify

from weftos import chain
from weftos.chain.folder.closed import closed_segments
from weftos.chain.folder.reader import list_segments
from weftos.chain.records.record import NewEvent
from weftos.chain.retention.policy import RetentionPolicy, archive_segments, plan, prune_segments, to_archive
from weftos.chain.signing.checkpoint import log_origin
from weftos.chain.statements.prune_statement import PruneStatement
from weftos.chain.statements.pruned_file import Act, Pruned, read_pruned
from weftos.chain.tiles.tile_tree import root_at
from weftos.errors import ChainCorrupted

SMALL = 4096


class Victim:
    """A signed log of many segments, in the beginning whole; its archive and keys lie beside it."""

    def __init__(self, folder):
        self.home, self.archive, self.keys = folder / "chain", folder / "archive", folder / "keys"

    @property
    def public(self):
        return chain.Signer.open(self.keys).public

    def open(self, **settings):
        settings.setdefault("signer", chain.Signer.open(self.keys))
        return open_log(self.home, segment_bytes=SMALL, archive=str(self.archive), **settings)

    def grow(self, count=100):
        with self.open() as writer:
            for number in range(count):
                writer.append(note(number))

    def prune(self, keep=4):
        with self.open() as writer:
            self.prune_with(writer, keep)

    def prune_with(self, writer, keep=4):
        writer.checkpoint()
        archive_segments(writer, to_archive(str(self.home), writer.archive, writer.checkpoints.size).segments)
        writer.checkpoint()
        rules = RetentionPolicy(keep_segments=keep)
        gone = plan(str(self.home), rules, writer.archive, writer.checkpoints.size, 0).segments
        prune_segments(writer, gone, archived=True)

    def found(self, **more):
        return {error.code for error in chain.verify(self.home, keys=self.public, **more).errors}

    def is_refused(self):
        """The log cannot be opened for writing, and looking at it has changed nothing."""
        before = {path: path.read_bytes() for path in self.home.rglob("*") if path.is_file()}
        with pytest.raises(ChainCorrupted), self.open():
            pass
        after = {path: path.read_bytes() for path in self.home.rglob("*") if path.is_file()}
        return {path for path in before if ".log" in path.name} == {path for path in after if ".log" in path.name}

    def status(self, *arguments):
        keys = self.keys.parent / "public.txt"
        origin = log_origin(next(iter(chain.read(self.home))).header.log_id)
        keys.write_text("".join(f"{key.format()}\n" for key in self.public.verifier_keys(origin)))
        return weaver_verify(self.home, "--key", str(keys), *arguments)[0]


@pytest.fixture
def victim(tmp_path):
    victim = Victim(tmp_path)
    victim.grow()
    return victim


def forged(victim, seq, count=5, signer=None):
    """A file ``pruned`` for the first segments, and the payload of a record that says the same."""
    listing = list_segments(str(victim.home))
    closed = closed_segments(listing)[:count]
    size = closed[-1].next_seq
    act = Act(1, [one.first_seq for one in closed], [one.size_bytes for one in closed], size, False, "")
    first = next(iter(chain.read(victim.home)))
    checkpoint = chain.Signer.open(victim.keys).recognise(
        (victim.home / "checkpoint").read_bytes(), log_origin(first.header.log_id)
    )
    pruned = Pruned.make(
        log_id=closed[0].log_id,
        seq=seq,
        segment=closed[-1].number,
        size=size,
        head_hash=closed[-1].head_hash,
        root=root_at(str(victim.home), size, checkpoint.size),
        acts=[act],
        kept=[],
    )
    statement = PruneStatement.of(pruned)
    if signer is not None:
        origin = log_origin(first.header.log_id)
        statement = msgspec.structs.replace(statement, note=signer.sign_text(statement.text(origin), origin))
    return pruned, statement.to_payload()


def take_away(victim, pruned):
    (victim.home / "pruned").write_bytes(pruned.encode())
    for number in range(1, pruned.segment + 1):
        (victim.home / f"{number:08d}.log").unlink()


@pytest.mark.parametrize("which", ["the first", "one in the middle", "the first of a pruned log"])
def test_attack_33_a_segment_is_removed(victim, which):
    if which == "the first of a pruned log":
        victim.prune()
    segments = sorted(victim.home.glob("*.log"))
    segments[len(segments) // 2 if which == "one in the middle" else 0].unlink()
    assert "missing_segment" in victim.found()
    assert victim.status() == 5
    assert victim.is_refused()


def test_attack_33_segments_are_removed_and_a_file_says_they_were_pruned(victim):
    take_away(victim, forged(victim, 7)[0])
    assert "pruned_invalid" in victim.found()
    assert victim.status() == 5
    assert victim.is_refused()


@pytest.mark.parametrize("by", ["nobody", "other keys"])
@pytest.mark.parametrize("when", ["behind the checkpoint", "before the next checkpoint", "left to the next opening"])
def test_attack_34_a_record_of_a_pruning_is_forged(victim, tmp_path, by, when):
    thief = chain.Signer.open(tmp_path / "thief") if by == "other keys" else None
    seq = chain.tail(victim.home, 1)[0].seq + 1
    pruned, payload = forged(victim, seq, signer=thief)
    with victim.open(signer=None) as writer:  # needs no key: it is not signed
        assert writer.append(NewEvent("chain", "chain.pruned", payload)).seq == seq
    if when == "left to the next opening":
        # The log is to finish, in its own name, what it never announced.
        (victim.home / "pruned.next").write_bytes(pruned.encode())
        assert victim.is_refused()
        assert (victim.home / "00000001.log").exists()
        return
    if when == "before the next checkpoint":
        victim.grow(5)  # the log's keys sign over it
        assert victim.found() == set(), "nothing is missing yet"
    take_away(victim, pruned)
    assert "pruned_invalid" in victim.found()
    assert victim.status() == 5
    assert victim.is_refused()


def test_attack_34_an_agent_cannot_say_it(victim):
    seq = chain.tail(victim.home, 1)[0].seq + 1
    pruned, payload = forged(victim, seq, signer=chain.Signer.open(victim.keys))
    with victim.open() as writer:
        writer.append(NewEvent("agent:7", "chain.pruned", payload))
    take_away(victim, pruned)
    assert "pruned_invalid" in victim.found()
    assert victim.is_refused()


@pytest.mark.parametrize("what", ["older", "further", "gone", "another key", "no keys kept"])
def test_attack_35_the_file_that_says_where_the_log_begins_is_changed(victim, tmp_path, what):
    victim.grow(200)
    victim.prune(keep=20)
    older = (victim.home / "pruned").read_bytes()
    victim.grow()
    victim.prune()
    path = victim.home / "pruned"
    genuine = read_pruned(str(victim.home))
    replace = msgspec.structs.replace
    if what == "older":
        path.write_bytes(older)
    elif what == "gone":
        path.unlink()
    elif what == "further":
        act = genuine.acts[-1]
        one = closed_segments(list_segments(str(victim.home)))[0]
        acts = [*genuine.acts[:-1], replace(act, size=one.next_seq, first_seqs=[*act.first_seqs, one.first_seq])]
        acts[-1] = replace(acts[-1], sizes=[*act.sizes, one.size_bytes])
        path.write_bytes(
            replace(genuine, segment=one.number, size=one.next_seq, head_hash=one.head_hash, acts=acts).encode()
        )
        (victim.home / f"{one.number:08d}.log").unlink()
    elif what == "another key":
        with open_log(tmp_path / "other", signer=chain.Signer.open(tmp_path / "thief")):
            pass
        body = replace_keys(genuine, next(r for r in chain.read(tmp_path / "other") if r.kind == "key.genesis"))
        path.write_bytes(body.encode())
    else:
        path.write_bytes(replace(genuine, kept=[]).encode())
    expected = {"missing_segment"} if what in ("older", "gone") else {"pruned_invalid"}
    assert expected & victim.found()
    assert not chain.verify(victim.home).valid, "nor for somebody without keys"
    assert victim.status() == 5
    assert victim.is_refused()


def replace_keys(genuine, other):
    """The file with the first keys of another log in it, under the right number and log."""
    from weftos.chain.records.frames import BODY, RECORD
    from weftos.chain.records.record import encode_header

    header = msgspec.structs.replace(other.header, log_id=genuine.log_id)
    raw = encode_header(header)
    body = BODY.pack(RECORD, 0, len(raw)) + raw + other.salted
    return msgspec.structs.replace(genuine, kept=[genuine.kept[0], body, *genuine.kept[2:]])


@pytest.mark.parametrize("how", ["a byte", "packed anew", "a payload", "cut", "gone", "swapped", "of another log"])
def test_attack_36_the_archive_is_changed(victim, tmp_path, how):
    victim.prune()
    path = victim.archive / "00000003.log.gz"
    data = path.read_bytes()
    if how == "a byte":
        path.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    elif how == "packed anew":
        path.write_bytes(gzip.compress(gzip.decompress(data), 1))
    elif how == "a payload":
        path.write_bytes(gzip.compress(gzip.decompress(data).replace(b"\x81\xa1n\x05", b"\x81\xa1n\x06")))
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "gone":
        path.unlink()
    elif how == "swapped":
        other = victim.archive / "00000004.log.gz"
        path.write_bytes(other.read_bytes())
        other.write_bytes(data)
    else:
        stranger = Victim(tmp_path / "stranger")
        stranger.home.parent.mkdir()
        stranger.grow()
        stranger.prune()
        shutil.copy(stranger.archive / path.name, path)
    assert victim.found() == set(), "the log itself is whole"
    assert {"archive_mismatch", "missing_segment"} & victim.found(archive=str(victim.archive))
    assert victim.status("--archive", str(victim.archive)) == 5
    assert victim.status() == 0


def test_attack_36_an_archive_from_before_an_erasure_is_put_back(victim):
    victim.prune()
    kept = victim.archive / "00000003.log.gz"
    before = kept.read_bytes()
    with victim.open() as writer:
        first = next(seq for seq in range(2, 40) if list_segments(str(victim.home)).pruned.segment_of(seq)[0] == 3)
        writer.redact(first, "asked to", "operator")
    assert victim.found(archive=str(victim.archive)) == set()
    kept.write_bytes(before)
    assert "archive_mismatch" in victim.found(archive=str(victim.archive))
    assert os.path.getsize(kept) == len(before)


def test_attack_10_an_older_copy_of_a_pruned_log_is_put_back(victim, tmp_path):
    victim.prune()
    shutil.copytree(victim.home, tmp_path / "old")
    victim.grow()
    victim.prune()
    shutil.rmtree(victim.home)
    shutil.copytree(tmp_path / "old", victim.home)
    assert victim.is_refused()
