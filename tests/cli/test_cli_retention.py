"""``weaver chain segments|archive|prune|restore``, and the other commands on a log whose beginning was pruned."""

from __future__ import annotations

import json

import pytest

from weftos import chain
from weftos.chain.retention.policy import RetentionPolicy, archive_segments, plan, prune_segments, to_archive
from weftos.chain.signing.checkpoint import log_origin
from weftos.chain.signing.pins import Pins
from weftos.rpc import retention_types as n

RULES = n.RetentionRules(keep_segments=0, keep_days=0, keep_bytes=0, archive=None, archive_dir="/a")
PLAN = n.SegmentPlan(
    segments=[n.SegmentRange(number=3, first_seq=20, records=10, bytes=4096)], why_not="it is so", begun=True
)


def status(**fields):
    return n.RetentionStatus(
        **{"state": "idle", "job": "", "archived": 1, "pruned": 1, "failure": "", "rules": RULES} | fields
    )


@pytest.fixture
def pruned(weaver):
    """A log in the instance's own place, archived and pruned; gives the number of its first record."""
    home = weaver.home
    (home / "keys").mkdir(mode=0o700, parents=True)
    with chain.ChainWriter.open(
        home / "chain",
        boot_id=b"b" * 16,
        signer=chain.Signer.open(str(home / "keys")),
        segment_bytes=4096,
        archive=str(home / "archive"),
    ) as writer:
        for number in range(200):
            writer.append(chain.NewEvent("agent:1", "app.test", {"n": number}))
        writer.checkpoint()
        archive_segments(writer, to_archive(writer.directory, writer.archive, writer.checkpoints.size).segments)
        writer.checkpoint()
        rules = RetentionPolicy(keep_segments=3)
        gone = plan(writer.directory, rules, writer.archive, writer.checkpoints.size, 0).segments
        prune_segments(writer, gone, archived=True)
        Pins(str(home / "known_logs")).pin(log_origin(writer.log_id), chain.Signer.open(str(home / "keys")).public)
    return gone[-1].next_seq


def test_segments(weaver, pruned):
    rows = weaver("chain", "segments", "--json").json
    assert [row["name"] for row in rows] == [f"{number:08d}.log" for number in range(1, len(rows) + 1)]
    gone = [row for row in rows if row["state"] == "pruned"]
    assert sum(row["records"] for row in gone) == pruned
    assert all(row["archive"].endswith(f"{row['name']}.gz") for row in gone)
    text = weaver("chain", "segments").out
    assert "pruned" in text
    assert "live, open" in text


def test_verify_says_what_was_not_looked_at(weaver, pruned):
    outcome = weaver("chain", "verify")
    assert outcome.status == 0, outcome.err
    assert f"records 0 to {pruned - 1}: their content was not checked" in " ".join(outcome.out.split())
    assert weaver("chain", "verify", "--json").json["pruned"] == pruned
    whole = weaver("chain", "verify", "--archive", str(weaver.home / "archive"), "--json")
    assert (whole.status, whole.json["pruned"], whole.json["first_seq"]) == (0, 0, 0)
    assert "read from it" in weaver("chain", "verify", "--archive", str(weaver.home / "archive")).out


def test_verify_of_a_changed_archive(weaver, pruned):
    path = weaver.home / "archive" / "00000003.log.gz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    outcome = weaver("chain", "verify", "--archive", str(weaver.home / "archive"), "--json")
    assert outcome.status == 5
    assert {error["code"] for error in outcome.json["errors"]} >= {"archive_mismatch"}


def test_prove_and_check_of_a_pruned_record(weaver, pruned, tmp_path):
    proof = tmp_path / "proof"
    assert weaver("chain", "prove", "5", "-o", str(proof)).status == 0, "the instance knows its archive"
    checked = weaver("chain", "check", str(proof), "--json")
    assert (checked.status, checked.json["valid"], checked.json["seq"]) == (0, True, 5)
    refused = weaver("chain", "prove", "5", "--dir", str(weaver.home / "chain"))
    assert (refused.status, "--archive" in refused.err) == (1, True)


def test_readers_begin_where_the_log_begins(weaver, pruned, tmp_path):
    rows = weaver("chain", "local", "-n", "0", "--json").json
    assert rows[0]["sequence"] == pruned
    assert weaver("chain", "tail", "-n", "100000", "--json").status == 0
    assert weaver("chain", "status", "--json").json["records"] == rows[-1]["sequence"] + 1
    assert weaver("chain", "keys").status == 0
    exported = weaver("chain", "export", "-o", str(tmp_path / "all.json"))
    assert exported.status == 0
    assert f"records 0 to {pruned - 1} were pruned" in exported.err
    lines = (tmp_path / "all.json").read_text().splitlines()
    assert json.loads(lines[0])["seq"] == pruned


def test_restore(weaver, pruned, tmp_path):
    copy = tmp_path / "copy"
    done = weaver("chain", "restore", str(copy), "--json")
    assert done.status == 0, done.err
    assert done.json["archived"] > 3
    report = weaver("chain", "verify", "--dir", str(copy), "--json").json
    assert (report["valid"], report["pruned"], report["records"]) == (True, 0, done.json["records"])
    again = weaver("chain", "restore", str(copy))
    assert (again.status, "not empty" in again.err) == (1, True)
    without = weaver("chain", "restore", str(tmp_path / "b"), "--dir", str(weaver.home / "chain"))
    assert "--archive" in without.err


@pytest.mark.parametrize("action", ["archive", "prune"])
def test_a_job_is_waited_for(weaver, action):
    args = () if action == "archive" else ("--keep-segments", "2", "--yes")
    with weaver.kernel(**{f"chain_{action}": PLAN, "chain_retention": status()}) as kernel:
        outcome = weaver("chain", action, *args)
        assert outcome.status == 0, outcome.err
        assert "00000003.log" in outcome.out
        assert "1 segment " in outcome.err
        assert "not more: it is so" in outcome.err
        assert kernel.asked[-1][0] == "chain.retention"
    with weaver.kernel(**{f"chain_{action}": PLAN, "chain_retention": status(failure="the disk is full")}):
        outcome = weaver("chain", action, *args, "--json")
        assert outcome.status == 1
        assert outcome.error["message"] == "the disk is full"


def test_pruning_asks_first(weaver):
    with weaver.kernel(chain_prune=PLAN, chain_retention=status()):
        outcome = weaver("chain", "prune", "--keep-segments", "2", stdin="n\n")
        assert outcome.status != 0
        assert "up to record 29" in outcome.err
    with weaver.kernel(chain_prune=PLAN):
        assert weaver("chain", "prune", "--keep-bytes", "a lot").status == 2
