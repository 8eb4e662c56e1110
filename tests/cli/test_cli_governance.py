"""`weaver gate`, `governance`, `env` and the demonstration: exit statuses, errors, and all of it with a real kernel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import msgspec
import pytest
from samples import REQUEST, VERDICT

from weftos import chain
from weftos.home import Home
from weftos.kernel.daemon import start_daemon
from weftos.rpc import governance_types as g
from weftos.rpc.client import RpcClient

WEAVER = [sys.executable, "-m", "weftos.cli.main"]
CHANGE = """
reason = "nobody deletes without asking"
risk_threshold = 0.5
[[rule]]
id = "OPS-001"
description = "deletions are approved by a person"
branch = "executive"
severity = "blocking"
outcome = "require_approval"
when = { actions = ["tool.fs.remove"] }
"""


def run(*words, status=0):
    done = subprocess.run([*WEAVER, *map(str, words)], capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stderr + done.stdout
    return done


def as_json(*words, status=0):
    return json.loads(run(*words, "--json", status=status).stdout)


@pytest.fixture
def kernel(weftos_home):
    home = Home(weftos_home)
    start_daemon(home)
    yield home
    with RpcClient(home.socket) as client:
        os_pid = client.call("kernel.status").os_pid
        handle = os.pidfd_open(os_pid)
        client.call("kernel.shutdown")
    import select

    ended = select.select([handle], [], [], 20)[0]
    if not ended:
        os.kill(os_pid, signal.SIGKILL)
    os.close(handle)
    assert ended


@pytest.mark.parametrize(("decision", "status"), [("permit", 0), ("defer", 3), ("deny", 4)])
def test_a_check_ends_with_the_status_of_the_answer(weaver, decision, status):
    with weaver.kernel(gate_check=msgspec.structs.replace(VERDICT, decision=decision)):
        plain = weaver("gate", "check", "1", "agent.spawn")
        assert (plain.status, plain.out) == (status, f"{decision}: no rule objects\n")
        explained = weaver("gate", "check", "1", "agent.spawn", "--explain")
        assert explained.status == status
        assert "0.5, not above the threshold 0.7" in explained.out
        found = weaver("gate", "check", "1", "agent.spawn", "--json")
        assert (found.status, found.json["decision"], found.json["rule"]) == (status, decision, "")


def test_what_is_no_context_is_said(weaver):
    for text in ("{", "[1]", "7"):
        assert weaver("gate", "check", "1", "x", "--context", text).status == 2
    assert weaver("env", "switch", "lab", "--human-approval", "--reason", "r").status == 2


def test_all_pages_of_requests_are_shown(weaver):
    pages = {-1: ([REQUEST], True), 7: ([msgspec.structs.replace(REQUEST, request=9, state="pending")], False)}

    def page(params):
        requests, more = pages[params.after]
        return g.GateRequestList(requests=requests, more=more)

    with weaver.kernel(gate_pending=page):
        assert [row["request"] for row in weaver("gate", "pending", "--all", "--json").json["requests"]] == [7, 9]


def test_the_demonstration_works_as_documented(weftos_home, tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "file").write_text("x")
    proof = tmp_path / "proof"
    found = as_json("run", "approvals-demo", folder, "--approve", "-o", proof)
    assert found["deleted"]
    assert not folder.exists()
    assert found["again"].startswith("gate.denied")
    assert found["by"].startswith("operator:")
    checked = as_json("chain", "check", proof)
    assert (checked["valid"], checked["seq"], checked["kind"]) == (True, found["permit_record"], "permit.mint")
    assert checked["payload"]["id"] == found["permit"]
    records = list(chain.read(str(Home(weftos_home).chain)))
    removals = [one for one in records if one.kind == "gate.intent" and one.payload["action"] == "tool.fs.remove"]
    assert [one.seq for one in removals] == [found["intent"]]
    assert [one.payload["environment"]["name"] for one in records if one.kind == "env.switch"] == [
        "approvals-demo",
        "default",
    ]
    outcome = next(one for one in records if one.header.cause == found["intent"] and one.kind == "gate.outcome")
    assert (outcome.payload["permit"], outcome.payload["result"]) == (found["permit"], "done")
    assert as_json("gate", "history", "--orphans") == []
    tried = {one["action"]: one for one in as_json("gate", "history", "--summary") if one["agent"] != "kernel"}
    assert tried["tool.fs.remove"] | {"agent": ""} == {
        "agent": "", "action": "tool.fs.remove", "done": 1, "failed": 0, "denied": 1, "deferred": 1,
    }  # fmt: skip
    assert tried["tool.fs.remove"]["agent"].startswith("folder-asker")
    assert as_json("gate", "history", "--summary", "--agent", 99) == []
    kinds = [row["kind"] for row in as_json("gate", "history", "-n", 100)]
    assert [kinds.count(kind) for kind in ("gate.request", "gate.approve", "permit.use", "permit.refuse")] == [1] * 4
    assert chain.verify(str(Home(weftos_home).chain)).valid


def test_the_demonstration_ends_when_it_is_refused_in_another_terminal(kernel, tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    demo = subprocess.Popen([*WEAVER, "run", "approvals-demo", folder, "--wait", "60"], stdout=subprocess.PIPE)
    try:
        first = demo.stdout.readline().decode()
        number = int(first.split("request ")[1].split()[0])
        assert [row["request"] for row in as_json("gate", "pending")["requests"]] == [number]
        run("gate", "deny", number, "--reason", "somebody needs it")
        demo.stdout.read()
        assert demo.wait(60) == 4
    finally:
        demo.kill()
        demo.wait()
        demo.stdout.close()
    assert folder.exists()
    assert [row["state"] for row in as_json("gate", "pending", "--all")["requests"]] == ["refused"]
    assert run("gate", "approve", number, status=1).stderr.startswith(f"Error: request {number} is refused")


def test_what_must_not_be_lost_is_refused(weaver, tmp_path):
    for path in ("/", tmp_path / "missing", weaver.home.parent):
        assert weaver("run", "approvals-demo", str(path)).status == 2


def test_rules_are_tried_signed_by_several_and_put_into_force(kernel, tmp_path):
    text = tmp_path / "change.toml"
    text.write_text(CHANGE)
    keys = kernel.keys / "branches"
    row = as_json("governance", "simulate", "tool.fs.remove", "--rules", text, "--threshold", 0.8)["rows"][0]
    assert (row["now"]["decision"], row["then"]["decision"], row["then"]["rule"]) == ("deny", "defer", "OPS-001")
    assert len(as_json("governance", "simulate", "--env", "production")["rows"]) > 10
    half = tmp_path / "half.json"
    said = run("governance", "supersede", text, "--key", keys / "executive.key", "-o", half).stdout
    assert "judicial" in said
    assert "the signature of the judicial branch" in run("governance", "supersede", half, status=4).stderr
    found = as_json("governance", "supersede", half, "--key", keys / "judicial.key")
    shown = as_json("governance", "show")
    assert (shown["version"], shown["hash"], shown["risk_threshold"]) == (2, found["hash"], 0.5)
    assert shown["differs_from_proposal"] == ["OPS-001"]
    assert [one["id"] for one in as_json("governance", "rules", "--id", "OPS-001")["rules"]] == ["OPS-001"]
    assert "another constitution" in run("governance", "supersede", half, status=4).stderr
    stranger = tmp_path / "stranger.key"
    stranger.write_bytes(bytes(32))
    assert "no branch" in run("governance", "supersede", text, "--key", stranger, status=4).stderr
    text.write_text("reason = 1")
    run("governance", "supersede", text, status=2)
    half.write_text("[")
    run("governance", "supersede", half, status=2)
    run("governance", "rules", "--id", "OPS-002", status=2)
    assert [one["name"] for one in as_json("env", "list")["environments"] if one["active"]] == ["default"]
    assert as_json("env", "switch", "staging", "--reason", "r")["name"] == "staging"
    run("env", "switch", "moon", "--reason", "r", status=2)
