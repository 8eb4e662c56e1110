"""A replica follows an honest source over everything that can happen to it, and believes no other."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from logs_for_tests import Crash, FaultyDisk, Ticking, open_log

from weftos import chain
from weftos.chain.copies.replica import Replica
from weftos.chain.folder.pages import FileSource, Page, Pages, RawRecord
from weftos.chain.signing.checkpoint import Checkpoint, log_origin
from weftos.chain.writing.key_change import rotate_keys
from weftos.errors import ChainCorrupted, ChainError, SignatureInvalid, SplitView, StorageFailed


class Log:
    """A signed log that grows, and a replica of it."""

    def __init__(self, folder, segment_bytes=4096):
        folder.mkdir(exist_ok=True)
        self.home, self.copy = folder / "chain", folder / "copy"
        self.signer = chain.Signer.open(folder / "keys")
        self.keys = self.signer.public
        self.clock = Ticking()
        self.settings = {"signer": self.signer, "clock": self.clock, "segment_bytes": segment_bytes}
        self.writer = open_log(self.home, **self.settings)
        self.count = 0

    def grow(self, count, size=20):
        for _ in range(count):
            self.writer.append(chain.NewEvent("a", "app.note", {"n": self.count, "x": "x" * size}))
            self.count += 1
        self.writer.flush(sync=False)

    def replica(self, **settings):
        settings.setdefault("segment_bytes", 6000)
        return Replica.open(self.copy, self.writer.log_id, self.keys, **settings)

    def follow(self, replica, source=None, **settings):
        source = source or FileSource(self.home)
        while replica.pull(source, **settings):
            continue

    def records(self, home):
        return [(record.header_bytes, record.salted) for record in chain.read(home)]


@pytest.fixture
def log(tmp_path):
    made = Log(tmp_path)
    yield made
    made.writer.abandon()


def raws(home):
    return [RawRecord(record.header_bytes, record.salted) for record in chain.read(home)]


# --- pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_records", [1, 3, 1000])
@pytest.mark.parametrize("max_bytes", [1, 700, 1 << 20])
def test_pages_have_no_gap_from_any_number(log, max_records, max_bytes):
    log.grow(60, 100)
    log.writer.checkpoint()
    log.grow(20, 100)
    expected = raws(log.home)
    for start in (0, 1, 5, 37, 61, 62, 75, len(expected) - 1, len(expected), len(expected) + 5):
        pages, seq = Pages(str(log.home)), start
        while found := pages.read(seq, max_records, max_bytes, log.writer.checkpoints.size):
            assert found == expected[seq : seq + len(found)]
            assert len(found) <= max_records
            assert len(found) == 1 or sum(len(r.header) + len(r.salted) for r in found) <= max_bytes
            seq += len(found)
        assert seq == max(start, len(expected))


def test_frames_in_payloads_do_not_mislead(log):
    """Payloads that hold whole frames of this very log, as an agent can make them."""
    log.grow(30)
    log.writer.checkpoint()
    frames = (log.home / "00000001.log").read_bytes()[:3000]
    for _ in range(30):
        log.writer.append(chain.NewEvent("a", "app.note", {"frames": frames}))
    log.writer.checkpoint()
    expected, pages = raws(log.home), Pages(str(log.home))
    for seq in range(len(expected)):
        assert pages.read(seq, 1, 1, log.writer.checkpoints.size) == [expected[seq]]


def test_a_payload_that_goes_between_two_pages_does_no_harm(log):
    log.grow(40)
    log.writer.checkpoint()
    pages = Pages(str(log.home))
    covered = log.writer.checkpoints.size
    assert len(pages.read(0, 10, 1 << 20, covered)) == 10
    log.writer.redact(4, "wanted", "me")
    found = pages.read(10, 5, 1 << 20, covered)
    assert found == raws(log.home)[10:15]
    assert pages.read(4, 1, 1, covered) == [RawRecord(raws(log.home)[4].header, b"")]


# --- an honest source -------------------------------------------------------------------------------------------------


def test_a_replica_is_a_log_that_verifies(log):
    log.grow(100)
    log.writer.checkpoint()
    with log.replica() as replica:
        log.follow(replica, max_records=7)
        assert (replica.size, replica.verified) == (102, 102)
        log.grow(10)
        log.follow(replica)
        assert (replica.size, replica.verified) == (112, 102)
    assert log.records(log.copy) == log.records(log.home)
    report = chain.verify(log.copy, keys=log.keys)
    assert report.valid, report.errors
    assert report.signed_size == 102
    assert report.segments > 1
    assert (log.copy / "checkpoint").read_bytes() == (log.home / "checkpoint").read_bytes()
    with log.replica() as replica:
        log.writer.checkpoint()
        log.follow(replica)
        assert replica.verified == 112
    from weftos.chain.verification.proof_file import check_proof, make_proof, parse_proof

    made = parse_proof(make_proof(log.copy, 50).encode())
    check_proof(made, log.keys, log_origin(log.writer.log_id))


def test_redactions_and_changes_of_keys_are_followed(log):
    log.grow(20)
    log.writer.checkpoint()
    log.writer.redact(5, "wanted", "me")
    with log.replica() as replica:
        log.follow(replica)
        rotate_keys(log.writer, log.signer)
        log.grow(5)
        log.writer.checkpoint()
        log.follow(replica, max_records=2)
        assert replica.verified == replica.size == log.writer.head.seq + 1
        rotate_keys(log.writer, log.signer)
        log.follow(replica)
    assert chain.verify(log.copy, keys=log.keys).valid
    with log.replica() as replica:
        assert replica.verified == replica.size
    newest = Replica.open(log.copy, log.writer.log_id, log.signer.public)
    newest.close()


class ReplicaMachine(RuleBasedStateMachine):
    """The replica has a beginning of the log, and never less than was verified; its root is the log's."""

    def __init__(self):
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.log = Log(self.root)
        self.replica = self.log.replica()
        self.verified = 0

    def teardown(self):
        self.replica.close()
        self.log.writer.abandon()
        shutil.rmtree(self.root)

    @rule(count=st.integers(1, 20), size=st.integers(0, 400))
    def grow(self, count, size):
        self.log.grow(count, size)

    @rule()
    def sign(self):
        self.log.writer.checkpoint()

    @rule(max_records=st.integers(1, 50), max_bytes=st.sampled_from((1, 500, 5000, 1 << 20)))
    def pull(self, max_records, max_bytes):
        self.replica.pull(FileSource(self.log.home), max_records=max_records, max_bytes=max_bytes)
        self.check()

    @rule(torn=st.integers(0, 60))
    def crash(self, torn):
        self.replica.close()
        path = max(self.log.copy.glob("*.log"), default=None)
        if path is not None and torn:
            with path.open("ab") as file:
                file.write(b"\x30\0\0\0" + b"t" * torn)
        self.replica = self.log.replica()
        self.check()

    @rule(at=st.integers(0, 10), what=st.sampled_from(("hash", "payload", "gap", "again")))
    def lie(self, at, what):
        size = self.replica.size
        page = FileSource(self.log.home).page(size, 50, 1 << 20)
        if at >= len(page.records) or (what == "gap" and at == len(page.records) - 1):
            return
        bad = list(page.records)
        one = bad[at]
        if what == "gap":
            del bad[at]
        elif what == "again":
            bad.insert(at, one)
        elif what == "hash":
            bad[at] = RawRecord(one.header[:-1] + bytes([one.header[-1] ^ 1]), one.salted)
        else:
            bad[at] = RawRecord(one.header, one.salted[:-1] + bytes([one.salted[-1] ^ 1]))
        try:
            self.replica.pull(Fixed(Page(size, bad, b"")), max_records=60)
        except ChainCorrupted:
            assert self.replica.size in (self.replica.verified, size)
        else:
            # The last hash of a page is only found out by what follows, or by the root.
            assert what == "hash"
            assert at == len(bad) - 1
            self.replica.close()
            shutil.rmtree(self.log.copy)
            self.replica, self.verified = self.log.replica(), 0
        self.check()

    def check(self):
        assert self.replica.verified >= self.verified
        self.verified = self.replica.verified
        if self.replica.size:
            whole = self.log.records(self.log.home)
            assert self.log.records(self.log.copy) == whole[: self.replica.size]
            report = chain.verify(self.log.copy, keys=self.log.keys if self.verified else None)
            assert report.valid, report.errors


TestReplica = ReplicaMachine.TestCase
TestReplica.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)


# --- other sources ----------------------------------------------------------------------------------------------------


class Fixed:
    def __init__(self, page):
        self._page = page

    def page(self, seq, max_records, max_bytes):
        return self._page


def other_history(log, tmp_path, count):
    """A log with the same id and keys, and other records from some number on."""
    home = tmp_path / "other"
    shutil.copytree(log.home, home)
    shutil.rmtree(home / "tile")
    twin = tmp_path / "twin-keys"
    shutil.copytree(log.signer.folder, twin)
    for mark in twin.glob("high-water*"):
        mark.unlink()
    (home / "checkpoint").unlink()
    writer = open_log(home, signer=chain.Signer.open(twin), clock=Ticking(log.clock.now + 10**6))
    for number in range(count):
        writer.append(chain.NewEvent("a", "app.note", {"other": number}))
    writer.checkpoint()
    return writer, FileSource(home)


def test_another_history_is_refused_and_what_was_verified_stays(log, tmp_path):
    log.grow(30)
    log.writer.checkpoint()
    with log.replica() as replica:
        log.follow(replica)
        verified = replica.verified
        other, source = other_history(log, tmp_path, 20)
        with other:
            log.grow(5)
            log.writer.flush(sync=False)
            log.follow(replica)
            assert replica.size == verified + 5
            with pytest.raises(ChainCorrupted):
                log.follow(replica, source)
            assert replica.size == replica.verified == verified, "what nobody signed is gone, what was signed is here"
            log.grow(10)
            log.writer.checkpoint()
            log.follow(replica)
            assert replica.verified > verified + 14
            with pytest.raises((SplitView, ChainCorrupted)):
                log.follow(replica, source)
    assert log.records(log.copy) == log.records(log.home)
    assert chain.verify(log.copy, keys=log.keys).valid


def test_two_roots_and_a_regress_are_split_views(log):
    log.grow(10)
    log.writer.checkpoint()
    early = (log.home / "checkpoint").read_bytes()
    log.grow(10)
    made = log.writer.checkpoint()
    with log.replica() as replica:
        log.follow(replica)
        size = replica.size
        with pytest.raises(SplitView, match="has signed for") as caught:
            replica.pull(Fixed(Page(size, [], early)))
        assert caught.value.reason == "regress"
        forged = log.signer.sign(Checkpoint(made.origin, made.size, bytes(32)))
        with pytest.raises(SplitView) as caught:
            replica.pull(Fixed(Page(size, [], forged)))
        assert caught.value.reason == "root"
        unsigned = early.replace(b"\n12\n", b"\n11\n")
        with pytest.raises(SignatureInvalid):
            replica.pull(Fixed(Page(size, [], unsigned)))
        assert replica.pull(FileSource(log.home)) == 0


def test_records_that_were_not_signed_go_again(log):
    log.grow(10)
    with log.replica() as replica:
        log.follow(replica)
        made = log.writer.checkpoint()
        log.grow(1)
        wrong = log.signer.sign(Checkpoint(made.origin, replica.size + 1, bytes(32)))
        page = FileSource(log.home).page(replica.size, 10, 1 << 20)
        with pytest.raises(ChainCorrupted, match="are not those"):
            replica.pull(Fixed(Page(page.first_seq, page.records, wrong)))
        assert (replica.size, replica.verified) == (2, 2), "the beginning was signed when the log was made"
        log.follow(replica)
        assert replica.verified == made.size


def test_a_checkpoint_of_a_size_that_was_passed_vouches_for_nothing(log):
    """Its root is not compared any more, so it is not taken, however well it is signed."""
    log.grow(10)
    with log.replica() as replica:
        log.follow(replica)
        forged = log.signer.sign(Checkpoint(log_origin(log.writer.log_id), replica.size - 3, bytes(32)))
        assert replica.pull(Fixed(Page(replica.size, [], forged))) == 0
        assert replica.verified == 2
        log.writer.checkpoint()
        log.follow(replica)
        assert replica.verified == replica.size


def test_what_makes_no_sense_is_refused(log, tmp_path):
    log.grow(5)
    made = log.writer.checkpoint()
    good = FileSource(log.home).page(0, 100, 1 << 20)
    stranger = Log(tmp_path / "stranger")
    stranger.writer.checkpoint()
    pages = [
        Page(1, good.records, good.note),
        Page(0, good.records, b"rubbish"),
        Page(0, good.records, (stranger.home / "checkpoint").read_bytes()),
        Page(0, [RawRecord(b"", b"")], b""),
        Page(0, [RawRecord(b"x" * 70_000, b"y")], b""),
        Page(0, [RawRecord(good.records[0].header, b"z" * 200_000)], b""),
        Page(0, [RawRecord(good.records[0].header, b"short")], b""),
        Page(0, raws(stranger.home), b""),
    ]
    stranger.writer.abandon()
    with log.replica() as replica:
        for page in pages:
            with pytest.raises((ChainCorrupted, ChainError)):
                replica.pull(Fixed(page))
            assert replica.size == 0
        with pytest.raises(ChainError, match="another process"):
            log.replica()
        log.follow(replica)
        assert replica.verified == made.size
    with pytest.raises(ChainCorrupted):
        Replica.open(log.copy, bytes(16), log.keys)
    with pytest.raises(SignatureInvalid):
        Replica.open(log.copy, log.writer.log_id, stranger.keys)


def test_a_replica_that_was_changed_is_not_opened(log):
    log.grow(30)
    log.writer.checkpoint()
    with log.replica() as replica:
        log.follow(replica)
    path = log.copy / "00000001.log"
    data = bytearray(path.read_bytes())
    data[900] ^= 1
    path.write_bytes(data)
    with pytest.raises(ChainCorrupted):
        log.replica()


def test_the_world_ends_at_each_call(log):
    """Pulling is interrupted at each call that changes a file; opened again, the replica goes on."""
    log.grow(40)
    log.writer.checkpoint()
    disk = FaultyDisk()
    with log.replica(fs=disk) as replica:
        log.follow(replica, max_records=9)
    for at in range(0, disk.calls, 3):
        shutil.rmtree(log.copy)
        broken = FaultyDisk(at, Crash() if at % 2 else OSError(28, "No space left on device"))
        with pytest.raises((Crash, StorageFailed)), log.replica(fs=broken) as replica:
            log.follow(replica, max_records=9)
        with log.replica() as replica:
            log.follow(replica)
            assert replica.verified == replica.size == 42
        assert chain.verify(log.copy, keys=log.keys).valid
    assert os.path.isdir(log.copy)
