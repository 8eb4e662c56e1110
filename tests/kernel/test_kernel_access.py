"""Rules of access and certificates in a running kernel: what agents see, what survives, what is on the log."""

from __future__ import annotations

import base64
import json
import os
import pwd
import signal
import time

import pytest
from click.testing import CliRunner

from weftos import chain
from weftos.cli.main import root
from weftos.errors import (
    CapabilityDenied,
    DelegationExpired,
    DelegationInvalid,
    InvalidRequest,
    NodeNotFound,
    TreeError,
    WeftError,
)
from weftos.tree import trust
from weftos.tree.deltas import LOG_KINDS, from_payload
from weftos.tree.tree import ResourceTree

OPERATOR = f"operator:{os.geteuid()}/{pwd.getpwuid(os.geteuid()).pw_name}"


def tell(kernel, pid, /, **payload):
    return kernel.call("agent.send", pid=pid, message=payload, timeout_secs=10.0).reply


def look(kernel, agent, path, question="inspect", certificates=()):
    chain_ = [base64.b64decode(one.certificate).hex() for one in certificates]
    return tell(kernel, agent.pid, do="look", question=question, path=path, certificates=chain_)


def rule(kernel, path, effect, name, **about):
    return kernel.call("resource.set-rule", path=path, effect=effect, policy_id=name, reason="a test", **about)


def issue(kernel, subject, **about):
    return kernel.call("resource.delegate", subject=subject, reason="a test", **({"actions": ["read"]} | about))


def test_an_agent_sees_itself_and_what_rules_let_it_read(kernel):
    agent, other = kernel.spawn("tester"), kernel.spawn("tester")
    own, foreign = f"/kernel/agents/{agent.agent_id}", f"/kernel/agents/{other.agent_id}"
    assert look(kernel, agent, own)["metadata"]["pid"] == agent.pid
    hidden = look(kernel, agent, foreign)
    missing = look(kernel, agent, "/kernel/agents/nobody.9")
    assert hidden["error"] == missing["error"] == "gate.capability"
    assert hidden["text"].replace(foreign, "X") == missing["text"].replace("/kernel/agents/nobody.9", "X")
    rule(kernel, "/kernel/agents", "allow", "neighbours", principal=agent.agent_id, action="read")
    assert look(kernel, agent, foreign)["kind"] == "agent"
    seen = {node["path"] for node in look(kernel, agent, "/kernel/agents", "tree")}
    assert seen == {"/kernel/agents", own, foreign}
    assert look(kernel, other, own)["error"] == "gate.capability", "the rule is about one agent"
    rule(kernel, foreign, "deny", "not-this-one", action="read")
    assert look(kernel, agent, foreign)["error"] == "gate.capability"
    assert {node["path"] for node in look(kernel, agent, "/kernel/agents", "tree")} == {"/kernel/agents", own}
    kernel.call("resource.remove-rule", path=foreign, policy_id="not-this-one", reason="a test")
    assert look(kernel, agent, foreign)["kind"] == "agent"
    denials = [one for one in kernel.events() if one.kind == "capability.deny"]
    assert {one.payload["action"] for one in denials} == {"resource.read"}
    assert len(denials) == 4


def test_hostile_questions_of_an_agent_are_answered(shared):
    agent = shared.spawn("tester")
    for path in ("", "x", "/..", "/kernel/../apps", "/" + "a" * 5000):
        assert "error" in look(shared, agent, path), path
    assert tell(shared, agent.pid, do="look", question="inspect", path="/", certificates=["00"])["error"] == (
        "delegation.invalid"
    )
    assert shared.call("kernel.health").overall != "unhealthy"


def test_what_the_rules_say_is_explained(kernel):
    question = {"path": "/apps/shop", "principal": "echo.1", "role": "operator", "action": "write"}
    said = kernel.call("resource.decide", **question)
    assert (said.allowed, said.policy_id) == (False, None)
    rule(kernel, "/apps", "allow", "staff", role="operator")
    said = kernel.call("resource.decide", **question)
    assert (said.allowed, said.path, said.policy_id) == (True, "/apps", "staff")
    rule(kernel, "/apps", "deny", "freeze", action="write")
    assert kernel.call("resource.decide", **question).allowed is False
    shown = kernel.call("resource.acl", path="/apps")
    assert [(one.path, one.policy_id, one.effect) for one in shown.rules] == [
        ("/apps", "freeze", "deny"),
        ("/apps", "staff", "allow"),
    ]
    wishes = [one.payload for one in kernel.events() if one.kind == "acl.request"]
    assert [(one["op"], one["policy_id"], one["by"], one["reason"]) for one in wishes] == [
        ("set", "staff", OPERATOR, "a test"),
        ("set", "freeze", OPERATOR, "a test"),
    ]


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"path": "/nowhere"}, NodeNotFound),
        ({"path": "no/path"}, TreeError),
        ({"role": "king"}, TreeError),
        ({"action": "rule"}, TreeError),
        ({"policy_id": "a\nb"}, TreeError),
        ({"reason": "a\nb"}, InvalidRequest),
    ],
)
def test_rules_that_are_none_are_refused_and_leave_nothing(shared, params, error):
    before = shared.call("resource.stats").root_hash
    good = {"path": "/apps", "policy_id": "p", "effect": "allow", "reason": "a test"}
    with pytest.raises(error):
        shared.call("resource.set-rule", **good | params)
    assert shared.call("resource.stats").root_hash == before
    assert "acl.request" not in shared.kinds()


def test_a_certificate_lets_its_agent_read_for_a_while(shared):
    agent, other = shared.spawn("tester"), shared.spawn("tester")
    path = f"/kernel/agents/{other.agent_id}"
    good = issue(shared, f"agent:{agent.agent_id}", prefix="/kernel/agents")
    assert look(shared, agent, path)["error"] == "gate.capability"
    assert look(shared, agent, path, certificates=[good])["kind"] == "agent"
    assert look(shared, agent, "/apps", certificates=[good])["error"] == "gate.capability", "elsewhere"
    assert look(shared, other, path, certificates=[good])["error"] == "gate.capability", "somebody else's"
    writing = issue(shared, f"agent:{agent.agent_id}", actions=["write"])
    assert look(shared, agent, path, certificates=[writing])["error"] == "gate.capability", "for something else"
    assert look(shared, agent, path, certificates=[good, good])["error"] == "delegation.invalid"
    shared.call("resource.revoke", id=good.id, reason="a test")
    assert look(shared, agent, path, certificates=[good])["error"] == "delegation.revoked"
    shared.call("resource.restore", id=good.id, reason="a mistake")
    assert look(shared, agent, path, certificates=[good])["kind"] == "agent"
    with pytest.raises(TreeError):
        shared.call("resource.restore", id=good.id, reason="twice")
    short = issue(shared, f"agent:{agent.agent_id}", valid_secs=0.2)
    shared.until(lambda: time.time_ns() > short.not_after_ns)
    assert look(shared, agent, path, certificates=[short])["error"] == "delegation.expired"


def test_every_change_is_on_the_log_and_survives_kills(kernel):
    """What the kernel shows after kills is what the records add up to, and what was asked for last."""
    agent = kernel.spawn("tester")
    issued = []
    for round_ in range(3):
        issued.append(issue(kernel, f"agent:{agent.agent_id}"))
        rule(kernel, "/apps", "allow", f"r{round_}")
        kernel.call("resource.revoke", id=issued[0].id, reason="x") if round_ == 0 else None
        victim = next(one.os_pid for one in kernel.call("kernel.services") if one.name == "service")
        os.kill(victim, signal.SIGKILL)
        kernel.until(lambda n=round_: kernel.kinds().count("service.start") > n)
    with pytest.raises(TreeError):
        kernel.call("resource.revoke", id=issued[0].id, reason="again")
    kernel.stop()
    tree = ResourceTree()
    for record in chain.read(str(kernel.home.chain)):
        if record.source == "tree" and record.kind in LOG_KINDS:
            tree.apply(from_payload(record.kind, record.payload), record.seq, record.t_ns)
    assert {node.path.name for node in trust.listed(tree)} == {one.id for one in issued}
    assert bytes.fromhex(issued[0].id) in trust.Revoked(tree)
    kernel.start()
    assert kernel.call("resource.stats").root_hash == tree.root_hash().hex()
    found = kernel.call("resource.delegations")
    assert {one.id: one.revoked for one in found.certificates} == {one.id: one is issued[0] for one in issued}
    assert len(found.issuers) == 1, "the same key after each start"
    assert len(kernel.call("resource.acl", path="/apps").rules) == 3


def test_certificates_are_handed_on_and_fall_with_what_they_rest_on(kernel, tmp_path, monkeypatch):
    monkeypatch.setenv("WEFTOS_HOME", str(kernel.home.root))

    def weaver(*args, status=0):
        done = CliRunner().invoke(root, ["resource", "delegate", *map(str, args)])
        assert done.exit_code == status, done.output
        return done.output

    agent = kernel.spawn("tester")
    key, first, second = tmp_path / "key", tmp_path / "first", tmp_path / "second"
    subject = weaver("keygen", "-o", key).strip()
    assert key.stat().st_mode & 0o777 == 0o600
    weaver("issue", subject, "--on", "/apps", "--action", "read", "--hand-on", 1, "--reason", "r", "-o", first)
    handed = ("hand-on", first, f"agent:{agent.agent_id}", "--issuer-key", key, "-o", second)
    weaver(*handed)
    shown = json.loads(weaver("show", second, "--json"))
    assert (shown["prefix"], shown["subject"]) == ("/apps", f"agent:{agent.agent_id}")
    check = ("check", first, second, "--subject", f"agent:{agent.agent_id}", "--on", "/apps")
    assert "allowed" in weaver(*check)
    assert "outside of /apps" in weaver(*handed, "--on", "/", status=4)
    assert "does not" in weaver(*handed, "--action", "write", status=4)
    another = tmp_path / "another"
    weaver("keygen", "-o", another)
    foreign = ("hand-on", first, "agent:x", "--issuer-key", another, "-o", tmp_path / "none")
    assert "not issued by the subject" in weaver(*foreign, status=4)
    weaver("revoke", json.loads(weaver("show", first, "--json"))["id"], "--reason", "gone")
    assert "revoked" in weaver(*check, status=4)
    assert "not overwritten" in weaver("keygen", "-o", key, status=2)


def test_a_tampered_certificate_is_none(shared):
    agent = shared.spawn("tester")
    good = issue(shared, f"agent:{agent.agent_id}")
    data = base64.b64decode(good.certificate)
    for at in range(0, len(data), 7):
        forged = bytearray(data)
        forged[at] ^= 1
        with pytest.raises(WeftError) as caught:
            shared.call(
                "resource.authorize",
                certificates=[base64.b64encode(forged).decode()],
                subject=f"agent:{agent.agent_id}",
                path="/",
            )
        assert isinstance(caught.value, DelegationInvalid | DelegationExpired | CapabilityDenied), at


def test_a_damaged_key_is_refused_and_named(kernel):
    kernel.stop()
    path = kernel.home.keys / "delegation.key"
    path.write_bytes(b"short")
    with pytest.raises(WeftError, match=r"delegation\.key"):
        kernel.start()
    path.write_bytes(bytes(32))
    path.chmod(0o644)
    with pytest.raises(WeftError, match="read by others"):
        kernel.start()
