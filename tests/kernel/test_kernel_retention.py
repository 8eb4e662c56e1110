"""The service archives and prunes by the configured rules, also under load and through kill -9."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest

from weftos import chain
from weftos.chain.folder.reader import list_segments
from weftos.chain.retention.policy import segment_rows
from weftos.chain.signing.checkpoint import log_origin
from weftos.chain.signing.pins import Pins
from weftos.errors import RecordPruned, WeftError

RULES = '[chain]\nsegment_bytes = "8KiB"\nkeep_segments = 3\narchive = true\n'
#: How often the service looks for what it may archive or prune, and makes the checkpoint that each such step waits for.
OFTEN = {"SERVICE_RETAIN_S": 0.1, "SERVICE_SIGN_S": 0.1}


def configure(driver, text):
    driver.home.config.parent.mkdir(parents=True, exist_ok=True)
    driver.home.config.write_text(text)


def first_seq(driver):
    return list_segments(str(driver.home.chain)).first_seq


def load(driver, count):
    """An agent that appends so many records and ends; returns its pid."""
    return driver.spawn("bulk", args=[str(count)]).pid


def archive_of(driver):
    return str(driver.home.archive_of(""))


def verified(driver, **more):
    """Verify with the keys that the instance has pinned; the log must be whole."""
    home = str(driver.home.chain)
    origin = log_origin(next(iter(chain.read(home))).header.log_id)
    report = chain.verify(home, keys=Pins(str(driver.home.known_logs)).get(origin), **more)
    assert (report.valid, report.errors) == (True, [])
    return report


def test_the_service_archives_and_prunes_by_itself(cold):
    configure(cold, RULES)
    cold.start_with(**OFTEN)
    cold.until(lambda: cold.call("chain.retention").state == "idle")
    load(cold, 2000)
    cold.until(lambda: first_seq(cold) > 800, 60)
    during = verified(cold)
    assert during.pruned >= 800
    status = cold.call("chain.retention")
    assert status.archived > 20
    assert status.pruned > 10
    assert (status.failure, status.rules.keep_segments, status.rules.archive) == ("", 3, True)
    before = cold.call("resource.stats").root_hash
    assert before
    cold.stop()
    whole = verified(cold, archive=archive_of(cold))
    assert (whole.first_seq, whole.pruned) == (0, 0)
    notes = sum(
        1 for row in segment_rows(str(cold.home.chain), archive_of(cold)) if row.state == "pruned" and row.archive
    )
    assert notes >= status.pruned
    # The next kernel goes on with the tree, the keys and everything else.
    cold.start()
    cold.spawn("echo")
    assert cold.call("chain.checkpoint").size > whole.size
    cold.stop()
    verified(cold, archive=archive_of(cold))


@pytest.mark.parametrize("rounds", [3, pytest.param(12, marks=pytest.mark.slow)])
def test_the_service_is_killed_while_it_prunes_under_load(cold, rounds):
    configure(cold, RULES)
    cold.start_with(**OFTEN)
    seen = 0
    for _ in range(rounds):
        load(cold, 1500)
        start = seen
        cold.until(lambda start=start: len(pruned_records(cold)) + first_seq(cold) > start, 60)
        victim = next(s.os_pid for s in cold.call("kernel.services") if s.name == "service")
        os.kill(victim, signal.SIGKILL)
        cold.until(lambda victim=victim: service_pid(cold) not in (None, victim), 30)
        seen = len(pruned_records(cold)) + first_seq(cold)
        assert first_seq(cold) == max([0, *pruned_records(cold)]), "what was announced was finished by the next opening"
    cold.until(lambda: all(a.state != "running" or a.name == "service" for a in cold.call("agent.list")), 60)
    cold.stop()
    report = verified(cold, archive=archive_of(cold))
    assert report.first_seq == 0
    assert report.records == report.size


def test_the_service_is_killed_between_announcing_and_removing(cold):
    configure(cold, RULES)
    cold.start_with(**OFTEN)
    load(cold, 1200)
    cold.until(lambda: (cold.home.chain / "pruned.next").exists(), 60)
    victim = next(s.os_pid for s in cold.call("kernel.services") if s.name == "service")
    os.kill(victim, signal.SIGKILL)
    cold.until(lambda: service_pid(cold) not in (None, victim), 30)
    assert first_seq(cold) >= max(pruned_records(cold)) > 0
    cold.until(lambda: cold.call("chain.retention").state == "idle")
    cold.stop()
    assert verified(cold, archive=archive_of(cold)).first_seq == 0


def pruned_records(driver):
    return [record.payload["size"] for record in driver.events() if record.kind == "chain.pruned"]


def service_pid(driver):
    try:
        driver.call("chain.status")
        return next(s.os_pid for s in driver.call("kernel.services") if s.name == "service")
    except WeftError:
        return None


def test_by_hand(cold):
    configure(cold, '[chain]\nsegment_bytes = "8KiB"\nwitnesses = 0\n')
    cold.start_with(**OFTEN)
    load(cold, 400)
    # What is pruned below has to have its notes.
    cold.until(lambda: not cold.call("agent.list"))
    cold.until(lambda: cold.call("chain.archive", dry_run=True).segments)
    assert not os.path.exists(archive_of(cold)), "nothing happens by itself, nor in a dry run"
    plan = cold.call("chain.archive")
    assert plan.begun
    cold.until(lambda: cold.call("chain.retention").state == "idle")
    assert len(os.listdir(archive_of(cold))) >= len(plan.segments)
    nothing = cold.call("chain.prune", dry_run=True)
    assert (nothing.segments, nothing.begun) == ([], False)
    assert "no rule" in nothing.why_not
    plan = cold.call("chain.prune", dry_run=True, keep_segments=2)
    assert plan.segments
    assert not plan.begun
    assert cold.call("chain.prune", keep_segments=2).begun
    cold.until(lambda: first_seq(cold) > 0 and cold.call("chain.retention").state == "idle")
    last = plan.segments[-1]
    assert first_seq(cold) >= last.first_seq + last.records
    # The rules of one call are not those of the next.
    assert "no rule" in cold.call("chain.prune", dry_run=True).why_not
    # A payload that was pruned can still be erased, in the archive.
    record = next(segment_notes(cold))
    assert cold.call("chain.redact", seq=record, reason="asked to").seq == record
    cold.stop()
    assert verified(cold, archive=archive_of(cold)).checks.withheld == 1
    with pytest.raises(RecordPruned):
        next(chain.read(str(cold.home.chain), start=record))


def segment_notes(driver):
    """Numbers of notes that were pruned."""
    from weftos.chain.folder.locate import archived_record

    home = str(driver.home.chain)
    for seq in range(10, first_seq(driver)):
        if archived_record(home, archive_of(driver), seq).kind == "app.n":
            yield seq


@pytest.mark.slow
def test_a_snapshot_that_is_needed_and_gone_is_said(cold):
    configure(cold, RULES)
    cold.start_with(**OFTEN)
    load(cold, 1500)
    cold.until(lambda: first_seq(cold) > 0, 60)
    cold.stop()
    snapshot = cold.home.tree / "snapshot"
    data = snapshot.read_bytes()
    snapshot.write_bytes(data[:-1])
    with pytest.raises(WeftError, match="resource tree cannot be rebuilt"):
        cold.start()
    snapshot.write_bytes(data)
    cold.start()
    assert cold.call("resource.stats").root_hash


@pytest.mark.parametrize("crash", ["before the reference", "after the reference"])
def test_a_snapshot_is_replaced_so_that_one_of_two_is_good(cold, crash):
    cold.start()
    cold.spawn("echo")
    cold.stop()
    snapshot, following = cold.home.tree / "snapshot", cold.home.tree / "snapshot.next"
    if crash == "before the reference":
        following.write_bytes(b"of a later record that nobody refers to")
    else:
        snapshot.rename(following)
        snapshot.write_bytes(b"of an earlier record")
    cold.start()
    assert len(cold.call("resource.tree", path="/kernel/agents").nodes) == 2
    assert "the snapshot of the resource tree is not used" not in cold.log()


def audited(driver):
    command = [sys.executable, "-m", "weftos.cli.main", "--home", str(driver.home.root), "kernel", "audit"]
    return subprocess.run(command, capture_output=True, timeout=120)


def test_what_needs_the_pruned_beginning_says_so(cold):
    configure(cold, '[chain]\nsegment_bytes = "8KiB"\nkeep_segments = 3\narchive = false\n')
    cold.start_with(**OFTEN)
    load(cold, 1000)
    cold.until(lambda: first_seq(cold) > 300, 60)
    with pytest.raises(RecordPruned, match="pruned"):
        cold.call("chain.tail-from", seq=2, max_records=1, max_bytes=1000)
    newest = cold.call("chain.checkpoint").size - 1
    assert cold.call("chain.tail-from", seq=newest, max_records=1, max_bytes=100_000).records
    # What a pruned record names must not be taken for loose.
    with pytest.raises(RecordPruned, match="pruned"):
        cold.call("artifact.gc")
    done = audited(cold)
    assert (done.returncode, b"keep more of the log" in done.stderr) == (RecordPruned.exit_code, True)
    cold.stop()
    # The next kernel has all of its own records.
    cold.start()
    cold.audit()
    assert audited(cold).returncode == 0
    cold.stop()
    # The index of the log was made from records that are gone, so it cannot be made again.
    shutil.rmtree(cold.home.index)
    with pytest.raises(RecordPruned, match="index of the log"):
        cold.start()
