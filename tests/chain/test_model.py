"""Any sequence of appends, flushes, crashes and restarts, against a model that is a list."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from logs_for_tests import Ticking
from msgspec import structs

from weftos import chain, limits
from weftos.errors import IdempotencyConflict


class LogMachine(RuleBasedStateMachine):
    """``synced`` is what must survive anything; ``written`` what a crash may cut; ``buffered`` what it must take."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.home = self.root / "chain"
        self.signer = chain.Signer.open(self.root / "keys")
        self.clock = Ticking()
        self.position = 0
        self.synced: list[tuple[int, chain.Ack]] = []
        self.written: list[tuple[int, chain.Ack]] = []
        self.buffered: list[tuple[int, chain.Ack]] = []
        self.synced_bytes: tuple[str, int] = ("", 0)
        self.start()

    def start(self) -> None:
        self.writer = chain.ChainWriter.open(
            self.home,
            boot_id=bytes(16),
            clock=self.clock,
            signer=self.signer,
            segment_bytes=limits.CHAIN_SEGMENT_MIN_BYTES,
        )
        self.mark()

    def mark(self) -> None:
        name = max(n for n in os.listdir(self.home) if n.endswith(".log"))
        self.synced_bytes = (name, (self.home / name).stat().st_size)

    def teardown(self) -> None:
        self.writer.abandon()
        shutil.rmtree(self.root)

    def event(self, position: int) -> chain.NewEvent:
        return chain.NewEvent("a", "app.note", {"n": position}, None, None, "p", position)

    @rule(count=st.integers(1, 40))
    def append(self, count):
        numbers = range(self.position, self.position + count)
        segments = self.writer.statistics().segments
        acks = self.writer.append_many([self.event(n) for n in numbers])
        self.position += count
        self.buffered += zip(numbers, acks, strict=True)
        if self.writer.statistics().segments != segments:
            # A new segment brings all before it onto the disk; which ones exactly is the writer's affair.
            self.flush(sync=True)

    @precondition(lambda self: self.synced or self.written or self.buffered)
    @rule(data=st.data())
    def append_again(self, data):
        position, ack = data.draw(st.sampled_from(self.synced + self.written + self.buffered))
        assert self.writer.append(self.event(position)) == ack

    @precondition(lambda self: self.synced or self.written or self.buffered)
    @rule(
        data=st.data(), field=st.sampled_from(("kind", "payload", "subject", "cause", "permit")), new=st.integers(0, 3)
    )
    def append_another_in_its_place(self, data, field, new):
        position, ack = data.draw(st.sampled_from(self.synced + self.written + self.buffered))
        values = {"kind": "app.other", "payload": {"n": -1}, "subject": "else", "cause": 0, "permit": "p"}
        event = structs.replace(self.event(position), **{field: values[field]})
        batch = [self.event(self.position + n) for n in range(new)]
        before = self.writer.statistics().records
        with pytest.raises(IdempotencyConflict) as caught:
            self.writer.append_many([*batch, event])
        assert caught.value.seq == ack.seq
        assert self.writer.statistics().records == before

    @rule(sync=st.booleans())
    def flush(self, sync):
        self.writer.flush(sync)
        self.written += self.buffered
        self.buffered = []
        if sync:
            self.synced += self.written
            self.written = []
            self.mark()

    @rule()
    def sign(self):
        self.writer.checkpoint()
        self.flush(sync=True)

    @rule()
    def restart(self):
        self.writer.close()
        self.synced += self.written + self.buffered
        self.written, self.buffered = [], []
        self.start()

    @rule(share=st.floats(0, 1))
    def crash(self, share):
        """Everything buffered is gone, and any part of what was not synced."""
        self.writer.abandon()
        name, synced = self.synced_bytes
        size = (self.home / name).stat().st_size
        os.truncate(self.home / name, synced + int((size - synced) * share))
        self.start()
        held = {r.payload["n"]: r for r in chain.read(self.home) if r.kind == "app.note"}
        kept = [(n, ack) for n, ack in self.written if n in held]
        assert kept == self.written[: len(kept)]
        self.synced += kept
        self.position = max((n for n, _ in self.synced), default=-1) + 1
        self.written, self.buffered = [], []

    @invariant()
    def the_log_is_the_model(self):
        notes = [r for r in chain.read(self.home) if r.kind == "app.note"]
        expected = self.synced + self.written
        assert [(r.payload["n"], r.seq, r.hash) for r in notes] == [(n, ack.seq, ack.hash) for n, ack in expected]
        report = chain.verify(self.home, keys=self.signer.public)
        assert report.valid
        assert report.warnings == []
        assert [r.hash for r in chain.tail(self.home, 5)] == [r.hash for r in chain.read(self.home)][-5:]


TestLog = LogMachine.TestCase
TestLog.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
