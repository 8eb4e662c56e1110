"""The service's archiving and pruning, driven turn by turn beside a real log."""

from __future__ import annotations

import errno
import os
import threading
from concurrent import futures

import pytest

from weftos import chain
from weftos.chain.retention.policy import RetentionPolicy, segment_rows
from weftos.errors import InvalidRequest
from weftos.service.retention import Retention


class Slow(chain.RealFiles):
    """Files on which writing to the archive can be held, or fail."""

    def __init__(self):
        self.held, self.reached = threading.Event(), threading.Event()
        self.held.set()
        self.full = False

    def create(self, path):
        if path.endswith(".gz.tmp"):
            self.reached.set()
            self.held.wait()
            if self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().create(path)


class Desk:
    """A log, and what archives it."""

    def __init__(self, folder, **rules):
        self.folder = folder
        self.disk = Slow()
        self.writer = chain.ChainWriter.open(
            folder / "chain",
            boot_id=bytes(16),
            fs=self.disk,
            signer=chain.Signer.open(folder / "keys"),
            segment_bytes=4096,
            archive=str(folder / "archive"),
        )
        self.snapshot = -1
        self.secured = []
        self.retention = Retention(
            self.writer,
            RetentionPolicy(**rules),
            lambda: self.writer.checkpoints.size,
            self.keep,
            lambda: self.snapshot,
            self.secured.append,
        )
        self.grow()

    def keep(self):
        form = {"version": 1, "log_id": bytes(16), "seq": 0, "root": bytes(32), "nodes": 0, "digest": bytes(32)}
        self.snapshot = self.writer.append(chain.NewEvent("tree", "tree.snapshot", form)).seq
        self.writer.commit()

    def grow(self, count=120):
        for n in range(count):
            self.writer.append(chain.NewEvent("agent:7", "app.n", {"n": n}))
        self.writer.checkpoint()

    def turn(self):
        """As the service's loop would, without waiting for the time to look again."""
        retention = self.retention
        if retention._beside.busy:
            assert futures.wait([retention._beside._work], 60).done
        retention._next_look = 0.0
        if retention.is_due():
            retention.turn()
        if retention._phase == "announced":
            self.writer.checkpoint()

    def until_idle(self):
        for _ in range(2000):
            self.turn()
            if self.retention.status()["state"] == "idle" and not self.retention._beside.busy:
                return self.retention.status()
        raise AssertionError(self.retention.status())

    def states(self):
        return [row.state for row in segment_rows(str(self.folder / "chain"), str(self.folder / "archive"))]


@pytest.fixture
def desk(tmp_path):
    made = []

    def make(**rules):
        made.append(Desk(tmp_path, **rules))
        return made[-1]

    yield make
    for one in made:
        one.disk.held.set()
        one.retention.settle()
        one.retention.end()
        one.writer.close()
        report = chain.verify(tmp_path / "chain", keys=one.writer.signer.public)
        assert (report.valid, report.errors) == (True, [])


def test_without_rules_nothing_happens(desk):
    one = desk()
    assert not one.retention.is_due()
    assert set(one.states()) == {"live"}


def test_rules_are_applied_and_the_tree_is_kept_first(desk):
    one = desk(keep_segments=4, archive=True)
    one.grow(250)
    for _ in range(300):
        one.turn()
    states = one.states()
    assert states.count("pruned") >= 16
    assert one.snapshot >= 0
    assert one.secured
    assert one.retention.status()["failure"] == ""
    assert "pruned" not in states[states.index("archived") :], "a beginning"


def test_a_job_is_done_once(desk):
    one = desk()
    planned = one.retention.request("archive", {}, dry_run=False)
    assert planned["begun"]
    with pytest.raises(InvalidRequest, match="already"):
        one.retention.request("archive", {}, dry_run=False)
    one.until_idle()
    assert one.states().count("archived") == len(planned["segments"])
    assert one.retention.request("prune", {"keep_segments": 2}, dry_run=False)["begun"]
    done = one.until_idle()
    assert done["pruned"] > 5
    assert not one.retention.is_due()
    for rules in ({"keep_segments": "x"}, {"keep_segments": -1, "archive": "y"}):
        with pytest.raises(InvalidRequest):
            one.retention.request("prune", rules, dry_run=True)
    with pytest.raises(InvalidRequest):
        one.retention.request("burn", {}, dry_run=True)


def test_a_job_that_comes_while_the_thread_looks_is_not_lost(desk):
    one = desk(keep_segments=1000)
    one.retention._next_look = 0.0
    one.retention.turn()
    assert one.retention._phase == "looking"
    planned = one.retention.request("archive", {}, dry_run=False)
    one.until_idle()
    assert one.states().count("archived") == len(planned["segments"]) > 5


def test_a_failure_is_said_and_stops_neither_the_log_nor_later_tries(desk):
    one = desk(archive=True)
    one.disk.full = True
    for _ in range(6):
        one.turn()
    assert "No space" in one.retention.status()["failure"]
    assert os.listdir(one.folder / "archive") == []
    one.grow()
    one.disk.full = False
    for _ in range(40):
        one.turn()
    assert one.retention.status()["failure"] == ""
    assert "archived" in one.states()


def test_an_erasure_makes_a_step_give_way(desk):
    one = desk(archive=True)
    one.disk.held.clear()
    for _ in range(4):
        if one.retention._phase == "preparing":
            break
        one.turn()
    assert one.disk.reached.wait(30)
    assert one.retention.status()["state"] == "archiving"
    one.retention._step.stopping.ask()
    one.disk.held.set()
    one.retention.settle()
    assert one.retention.status()["state"] == "idle"
    assert os.listdir(one.folder / "archive") == [], "nothing of it is left"
    one.writer.redact(20, "asked to", "operator")
    for _ in range(80):
        one.turn()
    report = chain.verify(one.folder / "chain", archive=str(one.folder / "archive"))
    assert (report.valid, report.checks.withheld) == (True, 1)
