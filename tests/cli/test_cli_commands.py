"""What each command asks the kernel and what it makes of the answer, against a fake kernel on a real socket."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from samples import (
    CONSTITUTION,
    CRASH,
    DETAIL,
    ENVIRONMENT,
    REQUEST,
    ROWS,
    RULE,
    SIMULATION,
    STATUS,
    STOPPED,
    VERDICT,
)

from weftos.errors import ServiceUnavailable
from weftos.rpc import access_types as x
from weftos.rpc import agent_types as a
from weftos.rpc import chain_types as ct
from weftos.rpc import governance_types as g
from weftos.rpc import kernel_types as kt
from weftos.rpc import message_types as mt
from weftos.rpc import retention_types as n
from weftos.rpc import tree_types as r
from weftos.rpc.methods import METHODS

SPAWNED = a.SpawnResult(pid=3, os_pid=77, agent_id="echo.3", name="echo", incarnation=1)
ENTRY = kt.LogEntry(timestamp=1_700_000_000.25, phase="READY", level="warn", message="slow disk", serial=7)
LETTER = mt.DeadLetterInfo(message_id="4-80", timestamp=1.0, sender=1, target=2, reason="poisoned", deliveries=3)
HEALTH = kt.HealthReport(
    overall="degraded",
    services=[kt.ServiceHealth(name="chain", health="healthy", detail="answers in 1 ms")],
    limits_enforced=["memory_bytes"],
    degraded=["no cgroup is writable: memory is limited per process only"],
)
SERVICE = kt.ServiceInfo(
    name="chain", service_type="system", state="running", health="healthy", os_pid=88, uptime_secs=5.0
)
TOPIC = mt.TopicInfo(topic="news", subscriber_count=2, subscribers=[1, 2], publishers=[3])
CHAIN = ct.ChainStatus(
    dir="/srv/one/chain", state="ok", records=12, head_seq=11, head_hash="cd" * 32, segments=1, bytes=4096, os_pid=88
)
CHAIN_ROW = ct.ChainRow(
    sequence=11, timestamp=1.0, source="kernel", kind="agent.spawn", detail="pid=1", hash="ef" * 32, payload={"pid": 1}
)

SCORES = r.ResourceScores(trust=0.5, performance=0.5, difficulty=0.5, reward=0.5, reliability=0.5, velocity=0.5)
NODE = r.ResourceNode(
    path="/kernel", kind="namespace", metadata={"state": "running"}, scoring=SCORES, chain_seq=2, created_ns=1,
    updated_ns=1, hash="cd" * 32,
)  # fmt: skip
SEGMENT_PLAN = n.SegmentPlan(
    segments=[n.SegmentRange(number=3, first_seq=20, records=10, bytes=4096)],
    why_not="segment 00000004 is one of the newest 2 that are closed",
    begun=False,
)

REQUESTS = g.GateRequestList(requests=[REQUEST], more=False)

#: command, method it must ask, parameters it must send, the answer.
BRIDGED = ct.BridgeHead(
    record=9, origin="weftos/log/" + "ab" * 16, size=12, root="cd" * 32, proven=True, pair_id="ef" * 8
)
#: Any text will do for a checkpoint: the kernel is a fake.
GOLDEN = Path(__file__).with_name("golden_help.txt")
NOTE = GOLDEN.read_text()

CASES = [
    (["kernel", "status"], "kernel.status", {}, STATUS),
    (["kernel", "services"], "kernel.services", {}, [SERVICE]),
    (["kernel", "ps"], "kernel.ps", {"all": False}, ROWS),
    (["kernel", "ps", "--all"], "kernel.ps", {"all": True}, ROWS),
    (["kernel", "logs"], "kernel.logs", {"count": 50, "level": "debug", "since": 0}, [ENTRY]),
    (["kernel", "logs", "-n", "3", "-l", "warn"], "kernel.logs", {"count": 3, "level": "warn", "since": 0}, [ENTRY]),
    (
        ["kernel", "kill-process", "4"],
        "kernel.kill-process",
        {"pid": 4, "graceful": True},
        kt.KillResult(pid=4, graceful=True, state="stopping"),
    ),
    (
        ["kernel", "kill-process", "4", "--force"],
        "kernel.kill-process",
        {"pid": 4, "graceful": False},
        kt.KillResult(pid=4, graceful=False, state="stopping"),
    ),
    (
        ["kernel", "restart-service", "chain"],
        "kernel.restart-service",
        {"name": "chain"},
        kt.RestartServiceResult(name="chain", old_pid=1, new_pid=2),
    ),
    (["health"], "kernel.health", {}, HEALTH),
    (["agent", "list"], "agent.list", {"all": False}, ROWS),
    (["agent", "inspect", "1"], "agent.inspect", {"pid": 1}, DETAIL),
    (
        ["agent", "stop", "1"],
        "agent.stop",
        {"pid": 1, "graceful": True, "timeout_secs": None},
        a.StopResult(pid=1, state="exited", exit=STOPPED),
    ),
    (
        ["agent", "stop", "1", "--force", "--timeout", "2.5"],
        "agent.stop",
        {"pid": 1, "graceful": False, "timeout_secs": 2.5},
        a.StopResult(pid=1, state="exited", exit=CRASH),
    ),
    (["agent", "restart", "1"], "agent.restart", {"pid": 1}, SPAWNED),
    (["agent", "suspend", "1"], "agent.suspend", {"pid": 1}, a.StateResult(pid=1, state="suspended")),
    (["agent", "resume", "1"], "agent.resume", {"pid": 1}, a.StateResult(pid=1, state="running")),
    (["chain", "status"], "chain.status", {}, CHAIN),
    (["chain", "local", "-n", "5"], "chain.local", {"count": 5}, [CHAIN_ROW]),
    (
        ["chain", "checkpoint"],
        "chain.checkpoint",
        {},
        ct.CheckpointResult(
            origin="weftos/log/" + "ab" * 16, size=12, root="cd" * 32, pair_id="ef" * 8, cosigned=True, note="n"
        ),
    ),
    (["chain", "rotate-key"], "chain.rotate-key", {}, ct.RotateResult(old="ab" * 8, new="cd" * 8, size=13)),
    (
        ["chain", "redact", "7", "--reason", "asked to", "--yes"],
        "chain.redact",
        {"seq": 7, "reason": "asked to"},
        ct.RedactResult(seq=7, record=14),
    ),
    (["chain", "bridge", "add", str(GOLDEN)], "chain.bridge-add", {"note": NOTE, "proof": None}, BRIDGED),
    (["chain", "bridge", "list"], "chain.bridge-list", {}, [BRIDGED]),
    (["chain", "archive", "--dry-run"], "chain.archive", {"dry_run": True}, SEGMENT_PLAN),
    (
        ["chain", "prune", "--dry-run", "--keep-bytes", "1KiB"],
        "chain.prune",
        {"dry_run": True, "keep_segments": 0, "keep_days": 0, "keep_bytes": 1024},
        SEGMENT_PLAN,
    ),
    (["gate", "check", "1", "agent.spawn"], "gate.check", {"pid": 1, "action": "agent.spawn", "context": {}}, VERDICT),
    (
        ["gate", "pending"],
        "gate.pending",
        {"all": False, "after": -1},
        REQUESTS,
    ),
    (
        ["gate", "approve", "7", "--for", "60"],
        "gate.approve",
        {"request": 7, "reason": "approved", "valid_secs": 60.0},
        REQUEST,
    ),
    (["gate", "deny", "7", "--reason", "no"], "gate.deny", {"request": 7, "reason": "no"}, REQUEST),
    (["governance", "show"], "governance.show", {}, CONSTITUTION),
    (["governance", "rules"], "governance.rules", {"after": ""}, g.GovernanceRuleList(rules=[RULE], more=False)),
    (
        ["governance", "simulate", "agent.spawn", "--env", "production"],
        "governance.simulate",
        {"action": "agent.spawn", "pid": None, "context": {}, "environment": "production", "draft": {}},
        SIMULATION,
    ),
    (["env", "list"], "env.list", {}, g.EnvironmentList(environments=[ENVIRONMENT])),
    (
        ["env", "switch", "lab", "--threshold", "0.8", "--reason", "r"],
        "env.switch",
        {"name": "lab", "fields": {"risk_threshold": 0.8, "human_approval_required": False}, "reason": "r"},
        g.SwitchResult(name="lab", record=4),
    ),
    (
        ["custody", "attest"],
        "custody.attest",
        {},
        ct.AttestResult(
            record=9,
            origin="weftos/log/" + "ab" * 16,
            attestation={
                "device_id": "cd" * 32,
                "size": 9,
                "head_hash": "ef" * 32,
                "roots": {"log": "ab" * 32},
                "t_ns": 1,
            },
        ),
    ),
    (
        ["resource", "tree", "/kernel"],
        "resource.tree",
        {"path": "/kernel", "limit": 1000},
        r.ResourceTree(root_hash="ab" * 32, nodes=[NODE], complete=True),
    ),
    (
        ["resource", "inspect", "/kernel"],
        "resource.inspect",
        {"path": "/kernel", "limit": 1000},
        r.ResourceDetail(**msgspec.structs.asdict(NODE), children=["/kernel/agents"], policies={}),
    ),
    (
        ["resource", "stats"],
        "resource.stats",
        {},
        r.ResourceStats(
            nodes=10,
            by_kind={"namespace": 10},
            depth=2,
            widest=4,
            policies=0,
            metadata_bytes=0,
            last_seq=9,
            root_hash="ab" * 32,
        ),
    ),
    (
        ["resource", "score", "/kernel", "-n", "2"],
        "resource.score",
        {"path": "/kernel", "limit": 2},
        r.ResourceScore(path="/kernel", scoring=SCORES, below=SCORES, similar=[["/apps", 1.0]]),
    ),
    (
        ["resource", "rank", "-w", "trust", "2"],
        "resource.rank",
        {"weights": [2.0, 0.0, 0.0, 0.0, 0.0, 0.0], "limit": 10},
        r.ResourceRank(ranked=[["/kernel", 1.0]]),
    ),
    (
        ["resource", "acl", "show", "/apps"],
        "resource.acl",
        {"path": "/apps"},
        x.AclView(path="/apps", rules=[x.AclRule(path="/", policy_id="p", effect="deny", principal="echo.1")]),
    ),
    (
        ["resource", "acl", "set", "/apps", "allow", "--id", "p", "--action", "read", "--reason", "why"],
        "resource.set-rule",
        {
            "path": "/apps",
            "policy_id": "p",
            "effect": "allow",
            "principal": None,
            "role": None,
            "action": "read",
            "reason": "why",
        },
        x.TreeChanged(record=7),
    ),
    (
        ["resource", "acl", "remove", "/apps", "p", "--reason", "why"],
        "resource.remove-rule",
        {"path": "/apps", "policy_id": "p", "reason": "why"},
        x.TreeChanged(record=8),
    ),
    (
        ["resource", "acl", "check", "/apps", "echo.1"],
        "resource.decide",
        {"path": "/apps", "principal": "echo.1", "role": "viewer", "action": "read"},
        x.AclDecision(allowed=True, reason="policy p", path="/apps", policy_id="p"),
    ),
    (
        ["resource", "delegate", "issue", "agent:echo.1", "--action", "read", "--for", "2h", "--reason", "why"],
        "resource.delegate",
        {
            "subject": "agent:echo.1",
            "prefix": "/",
            "actions": ["read"],
            "valid_secs": 7200.0,
            "max_depth": 0,
            "reason": "why",
        },
        x.DelegateResult(id="ab" * 32, certificate="AAAA", not_after_ns=10**18, record=9),
    ),
    (
        ["resource", "delegate", "list"],
        "resource.delegations",
        {},
        x.CertificateList(
            certificates=[
                x.CertificateRow(
                    id="ab" * 32,
                    subject="agent:a",
                    prefix="/",
                    actions=["read"],
                    not_before_ns=1,
                    not_after_ns=2,
                    max_depth=0,
                    issuer="cd" * 32,
                    record=9,
                    revoked=True,
                )
            ],
            revoked_elsewhere=["ef" * 32],
            issuers={"cd" * 32: "/"},
        ),
    ),
    (
        ["resource", "delegate", "revoke", "ab" * 32, "--reason", "why"],
        "resource.revoke",
        {"id": "ab" * 32, "reason": "why"},
        x.TreeChanged(record=10),
    ),
    (
        ["resource", "delegate", "restore", "ab" * 32, "--reason", "why"],
        "resource.restore",
        {"id": "ab" * 32, "reason": "why"},
        x.TreeChanged(record=11),
    ),
    (["ipc", "topics"], "ipc.topics", {}, [TOPIC]),
    (["ipc", "subscribe", "1", "news"], "ipc.subscribe", {"pid": 1, "topic": "news"}, {"pid": 1, "topic": "news"}),
    (
        ["ipc", "publish", "news", "hello"],
        "ipc.publish",
        {"topic": "news", "message": "hello"},
        mt.PublishResult(topic="news", subscribers=2, delivered=1),
    ),
    (["ipc", "dead-letters"], "ipc.dead-letters", {"count": 20}, [LETTER]),
]


@pytest.mark.parametrize(
    ("args", "method", "params", "answer"),
    CASES,
    ids=lambda v: " ".join(v) if isinstance(v, list) and v and isinstance(v[0], str) else None,
)
def test_a_command_asks_its_method_and_shows_the_answer(weaver, args, method, params, answer):
    with weaver.kernel() as kernel:
        kernel.answers[method] = answer
        as_json = weaver(*args, "--json")
        assert kernel.asked == [(method, params)]
        plain = weaver(*args)
    assert (as_json.status, as_json.err) == (0, "")
    assert as_json.json == msgspec.to_builtins(answer)
    assert plain.status == 0
    assert plain.out.strip()
    assert "\x1b" not in plain.out


def test_every_method_of_the_table_is_asked_by_some_command():
    asked = {method for _, method, _, _ in CASES}
    # These are tested on their own: spawning and sending below, the others in files of their own.
    asked |= {"agent.spawn", "agent.send", "kernel.shutdown", "agent.logs", "kernel.state", "resource.authorize"}
    asked |= {"ipc.prove", "chain.retention", "governance.supersede"}
    # Tokens, credentials and settings have a file of their own, with a kernel that keeps them.
    asked |= {name for name in METHODS if name.startswith(("auth.", "config."))}
    # Programs that copy the log ask for pages; `weaver` reads the files.
    asked |= {"chain.tail-from"}
    # In ``tests/kernel/test_capability_commands``.
    asked |= {name for name in METHODS if name.startswith(("capability.", "budget."))}
    # In ``test_cli_ecc``.
    asked |= {name for name in METHODS if name.startswith("ecc.")}
    # Artifacts have a file of their own; `weaver artifact get` and `list` read the store's folder.
    assert asked == {name for name in METHODS if not name.startswith("artifact.")} - {"ping"}


# --- agent spawn ---------------------------------------------------------------------------------


def spawn_params(weaver, *args):
    with weaver.kernel(agent_spawn=SPAWNED) as kernel:
        outcome = weaver("agent", "spawn", *args)
        assert outcome.status == 0, outcome.err
        return kernel.asked[0][1]


def test_spawn_leaves_to_the_kernel_what_was_not_said(weaver):
    params = spawn_params(weaver, "echo")
    assert params["program"] == "echo"
    assert params["capabilities"] is None
    assert params["limits"] == params["env"] == {}
    assert params["args"] == []
    assert params["restart"] == "on-failure"
    assert params["parent_pid"] is None


def test_spawn_answers_with_pids(weaver):
    with weaver.kernel(agent_spawn=SPAWNED):
        assert weaver("agent", "spawn", "echo", "--json").json == {
            "pid": 3,
            "os_pid": 77,
            "agent_id": "echo.3",
            "name": "echo",
            "incarnation": 1,
        }
        assert "PID          3" in weaver("agent", "spawn", "echo").out


def test_spawn_hands_arguments_limits_and_rights_over(weaver):
    params = spawn_params(
        weaver, "m:main", "--name", "n1", "--limit", "memory=64MiB", "--limit", "cpu_seconds=10", "--limit",
        "file_bytes=unlimited", "-e", "A=b=c", "--scope", "restricted:1,2", "--no-spawn", "--restart", "always",
        "--parent", "7", "--", "--fast", "-3", "--json",
    )  # fmt: skip
    assert params == {
        "program": "m:main",
        "name": "n1",
        "args": ["--fast", "-3", "--json"],
        "env": {"A": "b=c"},
        "limits": {"memory_bytes": 64 * 2**20, "cpu_seconds": 10, "file_bytes": 0},
        "capabilities": {
            "can_spawn": False,
            "can_ipc": True,
            "can_exec_tools": True,
            "can_network": False,
            "can_store": True,
            "ipc_scope": {"type": "Restricted", "pids": [1, 2]},
            "tools": {},
            "sandbox": {},
        },
        "role": "",
        "restart": "always",
        "parent_pid": 7,
        "sandbox": None,
        "backend": "native",
    }


def test_spawn_hands_the_sandbox_over(weaver, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    params = spawn_params(weaver, "echo", "--sandbox", "strict", "--readable", str(link), "--writable", "/tmp/.")
    assert params["sandbox"] == {"profile": "strict", "readable": [str(tmp_path)], "writable": ["/tmp"]}
    params = spawn_params(weaver, "echo", "--network")
    assert params["sandbox"] == {"network": True}
    assert params["capabilities"]["can_network"] is True
    refused = weaver("agent", "spawn", "echo", "--readable", str(tmp_path / "missing"))
    assert refused.status == 2
    assert "there is no" in refused.err


def test_a_program_file_is_named_in_full(weaver, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("def main(ctx): ...\n")
    monkeypatch.chdir(tmp_path)
    assert spawn_params(weaver, "./mine.py")["program"] == str(tmp_path / "mine.py")
    assert spawn_params(weaver, "mine.py")["program"] == str(tmp_path / "mine.py")


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["./missing.py"], "missing.py"),
        (["echo", "--limit", "memory"], "NAME=VALUE"),
        (["echo", "--limit", "memroy=1"], "did you mean memory"),
        (["echo", "--limit", "memory=much"], "no size"),
        (["echo", "--limit", "memory=-1"], "no size"),
        (["echo", "--limit", "processes=1.5"], "whole number"),
        (["echo", "--limit", "processes=-1"], "whole number"),
        (["echo", "--env", "=x"], "NAME=VALUE"),
        (["echo", "--scope", "everyone"], "none of"),
        (["echo", "--parent", "zero"], "no pid"),
    ],
)
def test_wrong_spawn_options_are_named(weaver, args, word):
    outcome = weaver("agent", "spawn", *args)
    assert outcome.status == 2
    assert word in outcome.err


# --- agent send ----------------------------------------------------------------------------------


def send(weaver, *args, reply="ok", stdin=None):
    result = a.SendResult(delivered=True, reply=reply, reply_type="text", elapsed_secs=0.001)
    with weaver.kernel(agent_send=result) as kernel:
        outcome = weaver("agent", "send", "1", *args, stdin=stdin)
        return (kernel.asked[0][1] if kernel.asked else None), outcome


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello", "hello"),
        ("", ""),
        ("17", "17"),
        ("null", "null"),
        ('"quoted"', '"quoted"'),
        ('{"cmd": "ping"}', {"cmd": "ping"}),
        (" [1, 2]", [1, 2]),
        ("{not json", "{not json"),
        ("[" * 5000, "[" * 5000),
        ("zażółć ✓", "zażółć ✓"),
    ],
)
def test_only_objects_and_arrays_are_json(weaver, text, message):
    params, outcome = send(weaver, text)
    assert outcome.status == 0
    assert params["message"] == message


def test_text_can_be_forced(weaver):
    assert send(weaver, "--text", '{"a": 1}')[0]["message"] == '{"a": 1}'


def test_a_message_may_begin_with_a_dash(weaver):
    assert send(weaver, "--", "-x")[0]["message"] == "-x"


def test_a_message_from_standard_input(weaver):
    assert send(weaver, "-", stdin='{"a": [1]}\n')[0]["message"] == {"a": [1]}
    assert send(weaver, "-", "--text", stdin="two\nlines\n")[0]["message"] == "two\nlines\n"


@pytest.mark.parametrize(("data", "word"), [(b"\xff\xfe", "not UTF-8"), (b"x" * (2**20 + 1), "more than")])
def test_standard_input_that_cannot_be_a_message(weaver, data, word):
    params, outcome = send(weaver, "-", stdin=data)
    assert params is None
    assert outcome.status == 2
    assert word in outcome.err


def test_a_message_larger_than_a_request_is_refused_before_it_is_sent(weaver):
    params, outcome = send(weaver, "x" * 2**20)
    assert params is None
    assert outcome.status == 1
    assert "1048576" in outcome.err


def test_the_reply_is_the_only_thing_on_standard_output(weaver):
    _, outcome = send(weaver, "hello", reply="hello")
    assert outcome.out == "hello\n"
    assert outcome.err == "(text in 1.0 ms)\n"


def test_a_structured_reply_is_indented_json(weaver):
    _, outcome = send(weaver, "x", reply={"b": [1, None]})
    assert json.loads(outcome.out) == {"b": [1, None]}
    assert outcome.out.count("\n") > 3


def test_send_with_json(weaver):
    _, outcome = send(weaver, "x", "--json", reply=[1])
    assert outcome.json == {"delivered": True, "reply": [1], "reply_type": "text", "elapsed_secs": 0.001}


def test_without_waiting_there_is_no_reply(weaver):
    params, outcome = send(weaver, "x", "--no-wait", "--timeout", "0.5")
    assert (params["wait"], params["timeout_secs"]) == (False, 0.5)
    assert outcome.out == ""


def test_a_reply_cannot_drive_the_terminal(weaver):
    _, outcome = send(weaver, "x", reply="\x1b[2Jgone\x07\x9b1m\nsecond")
    assert outcome.out == "\\x1b[2Jgone\\x07\\x9b1m\nsecond\n"


# --- rendering -----------------------------------------------------------------------------------


def test_inspect_shows_use_beside_limits_rings_rights_and_the_last_exit(weaver):
    with weaver.kernel(agent_inspect=DETAIL):
        text = weaver("agent", "inspect", "1").out
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "Agent 1:" in lines
    assert "Program echo --fast" in lines
    assert "Incarnation 2 (1 restart)" in lines
    assert "memory_bytes 200.0 MiB 256.0 MiB ████████████████░░░░ 78%" in lines
    assert "cpu_seconds 0.5 s unlimited" in lines
    assert "descriptors 9 10 ██████████████████░░ 90%" in lines
    assert "4 in kernel 64.0 KiB 128.0 KiB ████░░░░ 1,234 10.5/s 97.7 KiB 2.0 KiB/s -" in lines
    assert "5 out 2 0 B 4.0 KiB ░░░░░░░░ 0 - 0 B - news" in lines
    assert "can_network no" in lines
    because = "seen by the agent alone, because the system's audit is off"
    assert f"Refused by the system: calls recorded; paths {because}" in text
    assert "syscall mount EPERM - 1,234" in lines
    assert "How crash SIGSEGV" in lines
    assert any(line.endswith("(it ran 1m 30s)") for line in lines)


@pytest.mark.parametrize(
    ("scope", "text"),
    [
        ({"type": "All"}, "All"),
        ({"type": "Restricted", "pids": [1, 2]}, "Restricted: 1, 2"),
        ({"type": "Topic", "names": []}, "Topic: nothing"),
        ("All", "All"),
    ],
)
def test_a_scope_is_shown_in_words(weaver, scope, text):
    with weaver.kernel(agent_inspect=msgspec.structs.replace(DETAIL, capabilities={"ipc_scope": scope})):
        lines = weaver("agent", "inspect", "1").out.splitlines()
    assert f"ipc_scope {text}" in [" ".join(line.split()) for line in lines]


def test_a_quarantined_agent_says_so(weaver):
    detail = msgspec.structs.replace(DETAIL, quarantined=True, os_pid=None, state="exited")
    with weaver.kernel(agent_inspect=detail):
        assert "quarantined: its restart budget is spent" in weaver("agent", "inspect", "1").out


def test_the_process_table_is_aligned_and_complete(weaver):
    with weaver.kernel(agent_list=ROWS):
        header, first, second = weaver("agent", "list").out.splitlines()
    assert header.split()[:5] == ["PID", "NAME", "PROGRAM", "STATE", "PROCESS"]
    at = header.index("NAME")
    assert first[at:].startswith("echo ")
    assert second[at:].startswith("b ")
    assert first.endswith("crash SIGSEGV")
    assert "1h 1m" in first
    assert second.split() == ["2", "b", "m:f", "exited", "-", "1", "0", "-", "0", "µs", "-", "-"]


def test_empty_lists_say_so(weaver):
    with weaver.kernel(agent_list=[], ipc_topics=[], ipc_dead_letters=[]) as kernel:
        kernel.answers["ipc.dead-letters"] = []
        assert weaver("agent", "list").out == "no agents; `weaver agent spawn echo` starts one\n"
        assert weaver("ipc", "topics").out == "no topics\n"
        assert weaver("ipc", "dead-letters").out == "no dead letters\n"
        assert weaver("ipc", "topics", "--json").json == []


def test_names_from_agents_stay_on_their_line_and_out_of_the_terminal(weaver):
    row = msgspec.structs.replace(ROWS[0], name="a\nb\x1b[31m", program="p\tq")
    with weaver.kernel(agent_list=[row]):
        text = weaver("agent", "list").out
    assert len(text.splitlines()) == 2
    assert "\x1b" not in text


def test_unhealthy_is_status_1(weaver):
    with weaver.kernel(kernel_health=msgspec.structs.replace(HEALTH, overall="unhealthy")):
        assert weaver("health").status == 1
        outcome = weaver("health", "--json")
        assert outcome.status == 1
        assert outcome.json["overall"] == "unhealthy"


def test_an_unclean_shutdown_is_shown(weaver):
    with weaver.kernel(kernel_status=msgspec.structs.replace(STATUS, unclean_shutdown=True, max_processes=0)):
        text = weaver("kernel", "status").out
    assert "unclean" in text
    assert "of 0" not in text


def test_a_kernel_of_another_version_is_reported(weaver):
    with weaver.kernel(kernel_status={"state": "running"}):
        outcome = weaver("kernel", "status")
    assert outcome.status == 1
    assert "another version" in outcome.err


def test_chain_of_a_kernel_whose_service_is_down_is_read_from_files(weaver):
    with weaver.kernel(chain_status=ServiceUnavailable("the service process is down")):
        outcome = weaver("chain", "status")
    assert "shown from the files" in outcome.err
    assert "there is no log" in outcome.err
    assert outcome.status == 1
