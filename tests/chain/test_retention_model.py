"""A log that is appended to, archived, pruned, erased from and opened again in any order, beside a list."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from logs_for_tests import open_log

from weftos import chain, limits
from weftos.chain.copies.restore import restore
from weftos.chain.folder.reader import list_segments
from weftos.chain.retention.policy import (
    RetentionPolicy,
    archive_segments,
    plan,
    prune_segments,
    segment_rows,
    to_archive,
)
from weftos.chain.signing.checkpoint import log_origin
from weftos.chain.verification.proof_file import check_proof, make_proof


class PrunedLog(RuleBasedStateMachine):
    """The model is what each record says; ``None`` for one that was erased."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="weftos-model-"))
        self.home, self.archive = self.folder / "chain", str(self.folder / "archive")
        self.said: dict[int, int | None] = {}
        self.old: list[chain.checkpoint.Checkpoint] = []
        self.begin = 0
        self.writer = self.opened()

    def opened(self):
        return open_log(
            self.home,
            signer=chain.Signer.open(self.folder / "keys"),
            segment_bytes=limits.CHAIN_SEGMENT_MIN_BYTES,
            archive=self.archive,
        )

    def teardown(self):
        self.writer.abandon()
        shutil.rmtree(self.folder)

    @property
    def public(self):
        return self.writer.signer.public

    @rule(count=st.integers(1, 60), size=st.integers(0, 300))
    def append(self, count, size):
        for _ in range(count):
            n = len(self.said)
            ack = self.writer.append(chain.NewEvent("agent:7", "app.note", {"n": n, "x": "x" * size}))
            self.said[ack.seq] = n
        self.writer.commit()

    @rule()
    def checkpoint(self):
        self.old.append(self.writer.checkpoint())

    @rule(most=st.integers(1, 20))
    def archive_some(self, most):
        covered = self.writer.checkpoints.size
        archive_segments(self.writer, to_archive(str(self.home), self.archive, covered).segments[:most])

    @rule(keep=st.integers(1, 12), most=st.integers(1, 10))
    def prune(self, keep, most):
        rules = RetentionPolicy(keep_segments=keep)
        covered = self.writer.checkpoints.size
        gone = plan(str(self.home), rules, self.archive, covered, 0).segments[:most]
        if gone:
            prune_segments(self.writer, gone, archived=True)
            self.begin = gone[-1].next_seq

    @precondition(lambda self: any(n is not None for n in self.said.values()))
    @rule(data=st.data())
    def erase(self, data):
        seq = data.draw(st.sampled_from([seq for seq, n in self.said.items() if n is not None]))
        self.writer.redact(seq, "asked to", "operator")
        self.said[seq] = None

    @rule(orderly=st.booleans())
    def open_again(self, orderly):
        self.writer.commit()
        if orderly:
            self.writer.close()
        else:
            self.writer.abandon()
        self.writer = self.opened()

    @precondition(lambda self: self.said)
    @rule(data=st.data())
    def prove(self, data):
        covered = self.writer.checkpoint().size
        seq = data.draw(st.sampled_from([seq for seq in self.said if seq < covered]))
        proof = make_proof(self.home, seq, self.archive)
        record, _ = check_proof(proof, self.public, log_origin(self.writer.log_id))
        expected = self.said[seq]
        assert (None if record.withheld else record.payload["n"]) == expected

    @rule(data=st.data(), whole=st.booleans())
    def verify(self, data, whole):
        since = data.draw(st.sampled_from([None, *self.old])) if not whole else None
        report = chain.verify(
            self.home, keys=self.public, since=since, archive=self.archive if self.looks(whole) else ""
        )
        assert (report.valid, report.errors) == (True, [])
        if self.looks(whole):
            assert (report.pruned, report.first_seq) == (0, 0)
            assert report.checks.withheld == list(self.said.values()).count(None)
        else:
            assert report.pruned == self.begin

    def looks(self, whole):
        return whole and Path(self.archive).exists()

    @precondition(lambda self: Path(self.archive).exists())
    @rule()
    def copy(self):
        target = self.folder / "copy"
        restore(self.home, self.archive, str(target))
        found = {r.seq: r.payload.get("n") for r in chain.read(target) if r.kind == "app.note"}
        assert found == self.said
        shutil.rmtree(target)

    @invariant()
    def is_what_the_model_says(self):
        listing = list_segments(str(self.home))
        assert listing.first_seq == self.begin
        found = {r.seq: r.payload.get("n") for r in chain.read(self.home) if r.kind == "app.note"}
        assert found == {seq: n for seq, n in self.said.items() if seq >= self.begin}
        rows = segment_rows(str(self.home), self.archive)
        assert [row.name for row in rows] == [f"{number:08d}.log" for number in range(1, len(rows) + 1)]
        assert sum(row.records for row in rows) == self.writer.head.seq + 1
        assert sum(row.records for row in rows if row.state == "pruned") == self.begin
        assert self.writer.statistics().bytes == sum(path.stat().st_size for path in self.home.glob("*.log"))


TestPrunedLog = PrunedLog.TestCase
TestPrunedLog.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
