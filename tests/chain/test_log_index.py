"""The index of the log says what the log says, whatever becomes of the index."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from logs_for_tests import open_log

from weftos import chain
from weftos.chain.index.log_index import LogIndex
from weftos.chain.statements.lineage import Derivation
from weftos.errors import AppendRefused, StorageFailed

pytestmark = pytest.mark.usefixtures("any_payload")


def keyed(key, n, **more):
    return chain.NewEvent("agent:1", "app.note", {"n": n}, key=key, **more)


def put(writer, index, event):
    known = index.find_key(event)
    if known is not None:
        return known
    ack = writer.append(event)
    index.take(event, ack.seq, ack.hash)
    return ack


def opened(home, writer):
    return LogIndex.open(str(home) + ".index", str(home), writer.log_id, writer.head.seq + 1)


class IndexMachine(RuleBasedStateMachine):
    """``first`` holds for each key the place and content of its first event that the log still has."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.home = self.root / "chain"
        self.first: dict[str, tuple[int, bytes, int]] = {}
        self.redacted: set[int] = set()
        self.start()

    def start(self) -> None:
        self.writer = open_log(self.home, segment_bytes=4096)
        self.index = opened(self.home, self.writer)

    def teardown(self) -> None:
        self.index.close()
        self.writer.abandon()
        shutil.rmtree(self.root)

    @rule(key=st.sampled_from("abcdefgh"), n=st.integers(0, 2))
    def append(self, key, n):
        got = put(self.writer, self.index, keyed(key, n))
        if key in self.first:
            seq, digest, said = self.first[key]
            assert (got.seq, got.hash) == (seq, digest)
            assert got.same == (said == n or seq in self.redacted)
        else:
            self.first[key] = got.seq, got.hash, n

    @rule(count=st.integers(1, 30))
    def append_others(self, count):
        self.writer.append_many([chain.NewEvent("agent:2", "app.other", {"x": "x" * 50})] * count)

    @rule()
    def cover(self):
        self.writer.commit()
        self.index.commit(self.writer.head)

    @precondition(lambda self: self.first)
    @rule(data=st.data())
    def redact(self, data):
        seq = data.draw(st.sampled_from(sorted(place[0] for place in self.first.values())))
        if seq not in self.redacted:
            ack = self.writer.redact(seq, "wanted", "me")
            self.redacted.add(seq)
            self.index.take(chain.NewEvent("chain", "chain.redacted", {"seq": seq}), ack.seq, ack.hash)
            self.index.forget_erased()

    @rule(flushed=st.booleans())
    def crash(self, flushed):
        """What was not handed to the system is gone from the log; the index loses what it had not committed."""
        if flushed:
            self.writer.flush(sync=False)
        self.writer.abandon()
        self.index.close()
        self.start()
        size = self.writer.head.seq + 1
        self.first = {key: place for key, place in self.first.items() if place[0] < size}

    @rule(damage=st.sampled_from(("gone", "rubbish", "cut")))
    def lose_the_index(self, damage):
        self.writer.flush(sync=False)
        self.index.close()
        path = Path(f"{self.home}.index/log.db")
        for extra in ("-wal", "-shm"):
            Path(f"{path}{extra}").unlink(missing_ok=True)
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(b"rubbish" * 3000 if damage == "rubbish" else path.read_bytes()[:5000])
        self.index = opened(self.home, self.writer)


TestIndex = IndexMachine.TestCase
TestIndex.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


@pytest.mark.parametrize("change", [{"subject": "else"}, {"cause": 0}])
def test_subject_and_cause_belong_to_the_content(home, change):
    with open_log(home) as writer:
        index = opened(home, writer)
        put(writer, index, keyed("k", 1))
        assert index.find_key(keyed("k", 1)).same
        assert not index.find_key(keyed("k", 1, **change)).same
        assert not index.find_key(chain.NewEvent("agent:1", "app.other", {"n": 1}, key="k")).same
        assert index.find_key(chain.NewEvent("agent:9", "app.note", {"n": 1}, key="k")).same, "whoever submits it"
        index.close()


def test_the_key_stands_in_the_record_and_is_no_stream(home):
    with open_log(home) as writer:
        ack = writer.append(keyed("order-17", 1, position=9))
        assert writer.append(keyed("order-17", 1, position=9)).seq == ack.seq + 1, "the writer compares no keys"
        with pytest.raises(AppendRefused):
            writer.append(chain.NewEvent("a", "app.x", {}, producer="key:order-17", position=1))
        with pytest.raises(AppendRefused):
            writer.append(keyed("k" * 200, 1))
        with pytest.raises(AppendRefused):
            writer.append(keyed("k", 1, producer="p", position=1))
    header = list(chain.read(home))[ack.seq].header
    assert (header.producer, header.position) == ("key:order-17", 9)
    with open_log(home) as writer:
        assert writer.statistics().remembered == 0
    assert chain.verify(home).valid


def test_an_index_of_another_log_or_of_an_older_copy_is_not_used(home, tmp_path):
    with open_log(home) as writer:
        index = opened(home, writer)
        put(writer, index, keyed("k", 1))
        writer.commit()
        index.commit(writer.head)
        index.close()
    other = tmp_path / "other"
    with open_log(other) as writer:
        shutil.copytree(f"{home}.index", f"{other}.index")
        index = opened(other, writer)
        assert index.rebuilt
        assert index.find_key(keyed("k", 1)) is None
        index.close()
    shutil.rmtree(home)
    with open_log(home) as writer:
        for n in range(4):
            writer.append(chain.NewEvent("a", "app.x", {"n": n}))
        writer.commit()
        index = opened(home, writer)
        assert index.rebuilt
        index.close()


def test_only_what_is_new_is_read_and_nobody_else_may_read_it(home):
    with open_log(home) as writer:
        for n in range(50):
            writer.append(chain.NewEvent("a", "app.x", {"n": n}))
        writer.commit()
        index = opened(home, writer)
        assert index.read_records == 51
        writer.append(keyed("k", 1))
        writer.commit()
        index.close()
        index = opened(home, writer)
        assert index.read_records == 1
        assert index.find_key(keyed("k", 1)).seq == 51
        index.close()
    for name in os.listdir(f"{home}.index"):
        assert stat.S_IMODE(os.stat(f"{home}.index/{name}").st_mode) == 0o600
    assert stat.S_IMODE(os.stat(f"{home}.index").st_mode) == 0o700


def test_a_payload_that_was_taken_away_leaves_no_trace_in_the_index(home):
    with open_log(home) as writer:
        index = opened(home, writer)
        seq = put(writer, index, keyed("k", 1)).seq
        writer.commit()
        index.commit(writer.head)
        base = sqlite3.connect(f"{home}.index/log.db")
        (content,) = base.execute("SELECT content FROM keyed").fetchone()
        base.close()
        ack = writer.redact(seq, "wanted", "me")
        index.take(chain.NewEvent("chain", "chain.redacted", {"seq": seq}), ack.seq, ack.hash)
        index.forget_erased()
        assert not [name for name in Path(f"{home}.index").iterdir() if content in name.read_bytes()]
        index.close()


def test_after_a_failure_no_key_is_said_to_be_new(home, monkeypatch):
    with open_log(home) as writer:
        index = opened(home, writer)
        index._base.close()
        with pytest.raises(StorageFailed):
            index.find_key(keyed("k", 1))
        index._base = sqlite3.connect(f"{home}.index/log.db")
        with pytest.raises(StorageFailed):
            index.find_key(keyed("k", 1))
        index.close()


def test_children_and_marks_are_found_again(home):
    a, b = bytes(32), b"\1" * 32
    with open_log(home) as writer:
        index = opened(home, writer)
        steps = [
            ("agent:1", Derivation("a", a, None, None, "user")),
            ("tree", Derivation("b", b, "a", a, "snapshot")),
        ]
        for source, step in steps:
            event = chain.NewEvent(source, "lineage.derivation", step.to_payload())
            ack = writer.append(event)
            index.take(event, ack.seq, ack.hash)
        writer.append(chain.NewEvent("agent:1", "lineage.derivation", {"version": 9}))
        writer.commit()
        for _ in range(2):
            assert index.child("a") == (1, a, "user")
            assert index.child("b") == (2, b, "snapshot")
            assert index.child("c") is None
            assert index.has_edge("b", "a")
            assert index.has_edge("a", None)
            assert not index.has_edge("a", "b")
            assert index.newest("lineage.tree").name == "b"
            index.close()
            shutil.rmtree(f"{home}.index")
            index = opened(home, writer)
        index.close()
