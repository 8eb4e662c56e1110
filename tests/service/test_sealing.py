"""The service seals its log, and is killed around it: no seal is missing, none is wrong, and the log goes on."""

from __future__ import annotations

import os
import shutil
import signal

import pytest

from weftos import chain
from weftos.chain.statements.seals import SEAL_KIND, Seal, SealState, newest_seal
from weftos.chain.verification.verify_seals import SealCheck
from weftos.disk.secret_file import RealSecretFiles
from weftos.service import protocol as p
from weftos.service import sealing
from weftos.service.ledgers import LedgerSettings
from weftos.service.sealing import SealSettings


class Operator:
    """What somebody outside of the service does and knows."""

    def __init__(self, kernel, **settings):
        self.kernel = kernel
        self.state = kernel.home / "seal.state"
        settings.setdefault("seconds", 0.0)
        kernel.settings["ledgers"] = LedgerSettings(seals=SealSettings(str(self.state), **settings))
        self.keys = []

    def make_key(self):
        log_id = next(iter(chain.read(self.kernel.chain_dir))).header.log_id
        _, key = SealState.create(RealSecretFiles(), str(self.state), log_id)
        self.keys.append(key)

    def status(self):
        return self.kernel.head()["seals"]

    def until_epoch(self, epoch):
        """Append, and wait for the checkpoint that covers it, until so many seals are on the log."""
        serial = 0
        while (found := self.status())["epoch"] < epoch:
            assert not found["problem"]
            serial += 1
            self.append({"n": serial})
        return found

    def append(self, payload):
        """Append a record and return when a checkpoint covers it; its seal is on the log at the same moment."""
        ack = self.kernel.ask(p.Append("app.info", payload))
        while self.kernel.head()["checkpoint_size"] <= ack.seq:
            continue

    def seals(self):
        return [Seal.from_payload(r.payload) for r in chain.read(self.kernel.chain_dir) if r.kind == SEAL_KIND]

    def check(self):
        last = newest_seal(str(self.state)) if self.state.exists() else None
        report = chain.verify(self.kernel.chain_dir, seals=SealCheck(self.keys, last))
        assert report.valid, report.errors
        return report


@pytest.fixture(autouse=True)
def brisk(monkeypatch):
    """Checkpoints, and so seals, twenty times a second: what is tried here is their order, not their pace."""
    monkeypatch.setattr("weftos.limits.SERVICE_SIGN_S", 0.05)


@pytest.fixture
def operator(kernel):
    found = Operator(kernel)
    kernel.start()
    return found


def test_a_key_that_appears_is_taken_up_and_its_file_changes(operator):
    kernel = operator.kernel
    assert operator.status() == {"on": False, "problem": "", "epoch": 0, "sealed": 0, "record": -1}
    operator.make_key()
    assert operator.status()["on"], "at once, not with the next checkpoint"
    first = operator.state.read_bytes()
    found = operator.until_epoch(2)
    assert found["on"]
    assert operator.state.read_bytes()[32:64] != first[32:64], "the key has moved on"
    record = next(iter(chain.read(kernel.chain_dir, start=found["record"])))
    assert (record.kind, record.source) == (SEAL_KIND, "chain")
    assert kernel.stop_service() == 0
    report = operator.check()
    assert report.seals.seals == len(operator.seals()) >= 3, "the rest is sealed at the end"
    assert report.seals.sealed >= report.records - 3
    for name in os.listdir(kernel.home):
        assert operator.keys[0] not in (kernel.home / name).read_bytes() if (kernel.home / name).is_file() else True


def test_without_anything_new_there_is_no_seal(operator):
    operator.make_key()
    kernel = operator.kernel
    operator.until_epoch(1)
    while True:
        head = kernel.head()
        if head["checkpoint_size"] == head["records"] and head["seals"]["record"] == head["head_seq"]:
            break
    kernel.kill_service()
    kernel.start()
    kernel.ask(p.MakeCheckpoint())
    assert kernel.head()["records"] == head["records"]
    assert kernel.stop_service() == 0
    assert operator.seals()[-1].epoch == head["seals"]["epoch"] + 1, "the snapshot of the tree is new"
    operator.check()


def test_a_seal_waits_for_its_time_or_for_enough_records(kernel):
    operator = Operator(kernel, seconds=86_400.0, records=50)
    kernel.start()
    operator.make_key()
    operator.until_epoch(1)
    operator.append({})
    operator.append({})
    assert operator.status()["epoch"] == 1
    kernel.ask(p.AppendBatch([p.Event("app.info", {"n": n}) for n in range(50)]))
    while operator.status()["epoch"] < 2:
        continue
    assert kernel.stop_service() == 0
    operator.check()


def die_behind_the_seal():
    """In the service: the state is on the disk, and the world ends before the loop can log the seal."""
    whole = sealing.SealJob.run

    def run(job):
        whole(job)
        os.kill(os.getpid(), signal.SIGKILL)

    sealing.SealJob.run = run


def test_killed_between_seal_and_record(kernel):
    operator = Operator(kernel)
    kernel.start()
    operator.make_key()
    operator.until_epoch(1)
    for _ in range(3):
        kernel.kill_service()
        before = newest_seal(str(operator.state)).epoch
        kernel.start(before=die_behind_the_seal)
        kernel.post(p.Append("app.info", {}))
        assert kernel.service.wait() == -signal.SIGKILL
        made = newest_seal(str(operator.state))
        assert made.epoch == before + 1
        kernel.drain()
        kernel.channel.close()
        assert made not in operator.seals()
        kernel.start()
        assert made in operator.seals(), "opening puts it on the log"
    assert kernel.stop_service() == 0
    seals = operator.seals()
    assert [seal.epoch for seal in seals] == list(range(1, len(seals) + 1))
    assert operator.check().seals.seals == len(seals)


@pytest.mark.parametrize("kills", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_killed_at_any_moment(kernel, kills):
    """Each checkpoint is sealed; the service is killed as soon as the state file changes, or some appends later."""
    operator = Operator(kernel)
    kernel.start()
    operator.make_key()
    for number in range(kills):
        before = operator.state.read_bytes()
        while operator.state.read_bytes() == before:
            kernel.ask(p.Append("app.info", {"n": number}))
        for _ in range(number % 3):
            kernel.ask(p.Append("app.info", {"n": number}))
        kernel.kill_service()
        assert isinstance(kernel.start(), p.ServiceReady)
    assert kernel.stop_service() == 0
    report = operator.check()
    assert report.seals.seals >= kills
    assert report.seals.rows == 1


def test_an_older_copy_of_the_state_seals_nothing(operator):
    kernel = operator.kernel
    operator.make_key()
    operator.until_epoch(1)
    kernel.kill_service()
    shutil.copy(operator.state, kernel.home / "copy")
    kernel.start()
    operator.until_epoch(newest_seal(str(operator.state)).epoch + 2)
    kernel.kill_service()
    shutil.copy(kernel.home / "copy", operator.state)
    assert isinstance(kernel.start(), p.ServiceReady)
    found = operator.status()
    assert not found["on"]
    assert "older copy" in found["problem"]
    kernel.ask(p.Append("app.info", {}))
    assert kernel.stop_service() == 0
    operator.state.unlink()
    operator.check()


@pytest.mark.parametrize("damage", ["rubbish", "open to others", "of another log"])
def test_a_state_that_cannot_be_used_does_not_stop_the_log(operator, damage):
    kernel = operator.kernel
    if damage == "of another log":
        SealState.create(RealSecretFiles(), str(operator.state), bytes(16))
    else:
        operator.make_key()
        operator.state.write_bytes(b"rubbish" * 20) if damage == "rubbish" else operator.state.chmod(0o644)
    while not operator.status()["problem"]:
        assert isinstance(kernel.ask(p.Append("app.info", {})), p.Appended)
    assert not operator.status()["on"]
    assert kernel.head()["state"] == "ok"
    assert kernel.stop_service() == 0
    assert chain.verify(kernel.chain_dir).valid
    assert operator.seals() == [] or damage != "rubbish"


def test_a_state_made_anew_begins_another_row(operator):
    kernel = operator.kernel
    operator.make_key()
    operator.until_epoch(2)
    kernel.kill_service()
    operator.state.unlink()
    kernel.start()
    operator.make_key()
    while operator.status()["epoch"] != 1:
        kernel.ask(p.Append("app.info", {}))
    assert kernel.stop_service() == 0
    assert operator.check().seals.rows == 2
