"""Governance in the service: one constitution for the life of a log, and approvals that survive and are used once."""

from __future__ import annotations

import json
import os
import shutil
import signal

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from kernel_double import KernelDouble

from weftos import chain
from weftos.errors import GateDeferred, GateUnavailable, GovernanceDenied
from weftos.governance.approvals import Approvals
from weftos.governance.constitution import Constitution
from weftos.governance.draft import Draft, signed
from weftos.governance.environments import STANDARD
from weftos.governance.gate import Deny, Permit
from weftos.governance.rules import Branch, Condition, Rule, Severity
from weftos.service import governance_protocol as gp
from weftos.service import protocol as p

ASK = {"path": "/srv/old"}
REMOVE = "tool.fs.remove"
RULE = Rule(
    id="OPS-001",
    description="deletions are approved by a person",
    branch=Branch.EXECUTIVE,
    severity=Severity.BLOCKING,
    outcome="require_approval",
    when=Condition(actions=("tool.fs.remove",)),
)


def records(kernel, *kinds):
    return [one for one in chain.read(kernel.chain_dir) if not kinds or one.kind in kinds]


def constitution(kernel):
    pairs = [(one.kind, one.payload) for one in records(kernel, "governance.genesis", "governance.root.supersede")]
    return Constitution.fold(pairs)


def stop(kernel):
    assert kernel.stop_service() == 0
    kernel.drain()
    kernel.channel.close()


def change(kernel, change, by="user:ann", reason="a test"):
    return kernel.ask(gp.ChangeGovernance(change, by, 1000, reason))


def seeds(kernel, *branches):
    return [(kernel.home / "keys" / "branches" / f"{one.value}.key").read_bytes() for one in branches or Branch]


def supersede(kernel, draft, *branches):
    now = constitution(kernel)
    made = signed(now, draft.on(now), seeds(kernel, *branches))
    return change(kernel, gp.SupersedeRules(made.to_payload()))


def switch(kernel, name):
    return change(kernel, gp.SwitchEnvironment(msgspec.to_builtins(STANDARD[name])))


def ask(kernel, question, **params):
    reply = kernel.ask(gp.AskGovernance(question, params))
    assert isinstance(reply, p.Done), reply
    return reply.values


@pytest.fixture
def asking(kernel):
    """A service in which deletions take an approval, with two agents."""
    kernel.one, kernel.two = kernel.agent(1), kernel.agent(2)
    kernel.start()
    # A threshold would deny it first.
    assert isinstance(supersede(kernel, Draft(reason="r", rules=(RULE,), risk_threshold=0.8)), p.Done)
    return kernel


def request(client, action=REMOVE, context=None):
    decision = client.gate(action, ASK if context is None else context)
    return decision.request


def approved(kernel, client, **more):
    number = request(client)
    reply = change(kernel, gp.ApproveRequest(number, more.get("valid_secs", 60.0)))
    assert isinstance(reply, p.Done), reply
    return client.require(REMOVE, ASK, wait_s=20) if more.get("through_require") else client.approval(number, 20)


# --- the constitution -------------------------------------------------------------------------------------------------


def test_a_log_gets_one_constitution_for_good(kernel):
    kernel.start()
    first = ask(kernel, "show")
    for again in (KernelDouble.kill_service, stop):
        again(kernel)
        kernel.boot_id = os.urandom(16)
        kernel.start()
        assert ask(kernel, "show") == first
    assert [one.source for one in records(kernel, "governance.genesis")] == ["governance"]
    assert first["hash"] == constitution(kernel).hash.hex()
    assert (first["version"], first["rules"], first["differs_from_proposal"]) == (1, 22, [])
    folder = kernel.home / "keys" / "branches"
    assert {one.name: one.stat().st_mode & 0o777 for one in folder.iterdir()} == {
        f"{branch.value}.key": 0o600 for branch in Branch
    }


def test_it_is_found_again_without_its_index_and_from_the_index_alone(kernel):
    kernel.start()
    assert isinstance(supersede(kernel, Draft(reason="r", rules=(RULE,)), Branch.EXECUTIVE), p.Done)
    assert isinstance(switch(kernel, "staging"), p.Done)
    before = ask(kernel, "show")
    assert (before["version"], before["environment"]["name"]) == (2, "staging")
    stop(kernel)
    shutil.rmtree(f"{kernel.chain_dir}.index")
    kernel.start()
    assert ask(kernel, "show") == before


def test_only_what_is_signed_changes_it(kernel):
    kernel.start()
    alone = supersede(kernel, Draft(reason="r", risk_threshold=0.9), Branch.JUDICIAL)
    assert isinstance(alone, p.Failed)
    assert alone.code == "gate.denied"
    now = constitution(kernel)
    forged = Draft(reason="r", removed=("GOV-001",)).on(now)
    forged = msgspec.structs.replace(
        forged, signatures={branch: Ed25519PrivateKey.generate().sign(forged.message()) for branch in Branch}
    )
    assert change(kernel, gp.SupersedeRules(forged.to_payload())).code == "gate.denied"
    assert change(kernel, gp.SupersedeRules({"previous": 1})).code == "rpc.invalid"
    assert ask(kernel, "show")["version"] == 1
    assert records(kernel, "governance.root.supersede") == []
    assert isinstance(supersede(kernel, Draft(reason="r", risk_threshold=0.9)), p.Done)
    assert ask(kernel, "show")["risk_threshold"] == 0.9


def drifted(kernel):
    ready = kernel.start()
    assert isinstance(ready, p.ServiceBootFailed), ready
    assert ready.code == "governance.drift"
    assert kernel.service.wait() == 5
    kernel.channel.close()


def test_a_constitution_that_was_not_in_force_here_is_refused(kernel):
    kernel.start()
    assert isinstance(supersede(kernel, Draft(reason="r", rules=(RULE,)), Branch.EXECUTIVE), p.Done)
    stop(kernel)
    pin = kernel.home / "keys" / "constitution.json"
    good = json.loads(pin.read_text())
    for wrong in ({"version": 3}, {"hash": "00" * 32}, {"version": 1}):
        pin.write_text(json.dumps(good | wrong))
        drifted(kernel)
    # A crash between the record and the pin: the older one is followed by what the log says.
    first = Constitution.fold([(one.kind, one.payload) for one in records(kernel, "governance.genesis")])
    pin.write_text(json.dumps(good | {"version": 1, "hash": first.hash.hex()}))
    assert isinstance(kernel.start(), p.ServiceReady)
    assert json.loads(pin.read_text()) == good


def test_a_record_in_the_index_that_nobody_signed_is_refused(kernel):
    import sqlite3

    kernel.start()
    stop(kernel)
    base = sqlite3.connect(f"{kernel.chain_dir}.index/log.db")
    empty = Draft(reason="r", removed=("GOV-001",)).on(constitution(kernel))
    row = ("governance.standing", "governance.root.supersede", 5, msgspec.msgpack.encode(empty.to_payload()))
    base.execute("INSERT INTO marks VALUES (?, ?, ?, ?)", row)
    base.commit()
    base.close()
    drifted(kernel)


# --- the environment, and decisions -----------------------------------------------------------------------------------


def test_the_environment_counts_at_once_and_after_a_crash(kernel):
    client = kernel.agent(1).client()
    kernel.start()
    assert isinstance(client.gate("agent.spawn"), Permit)
    assert isinstance(switch(kernel, "production"), p.Done)
    with pytest.raises(GateDeferred, match="GOV-001"):
        client.require("agent.spawn")
    kernel.kill_service()
    kernel.start()
    with pytest.raises(GateDeferred, match="GOV-001"):
        client.require("agent.spawn")
    assert len(records(kernel, "gate.request")) == 1, "the same question waits once"
    switched = records(kernel, "env.switch")[0].payload
    assert (switched["by"], switched["uid"], switched["environment"]["name"]) == ("user:ann", 1000, "production")
    assert change(kernel, gp.SwitchEnvironment({"name": "x"})).code == "rpc.invalid"


def test_decisions_on_the_log_explain_themselves(kernel):
    client = kernel.agent(1).client()
    kernel.start()
    assert isinstance(client.gate("tool.fs.write_file", {"path": "/x"}), Permit)
    assert isinstance(client.gate("tool.exec", {"effect": {"risk": float("nan")}}), Deny)
    permit, deny = records(kernel, "gate.permit", "gate.deny")
    assert permit.payload["verdict"] == "permit_with_warning"
    assert (permit.payload["matched"], permit.payload["rule"]) == (["GOV-005"], "GOV-005")
    assert permit.payload["constitution"] == constitution(kernel).hash
    assert (permit.payload["magnitude"], permit.payload["threshold"]) == (0.4, 0.7)
    assert deny.payload["context_refused"], "a figure that is none is on no record"
    assert deny.payload["rule"] == "GOV-001"
    assert deny.payload["magnitude"] == pytest.approx(5**0.5)


def test_questions_of_the_operator_leave_nothing(kernel):
    kernel.agent(1)
    kernel.start()
    before = len(records(kernel))
    assert ask(kernel, "check", agent="1", action="tool.exec")["decision"] == "deny"
    assert ask(kernel, "check", agent="9", action="ipc.subscribe", context={"topic": "x"})["decision"] == "deny"
    rows = ask(kernel, "simulate", environment="production")["rows"]
    spawn = next(row for row in rows if row["action"] == "agent.spawn")
    assert (spawn["now"]["decision"], spawn["then"]["decision"]) == ("permit", "defer")
    draft = {"reason": "r", "rule": [RULE.to_builtins()], "risk_threshold": 0.8}
    row = ask(kernel, "simulate", agent="1", action=REMOVE, context=ASK, draft=draft)["rows"][0]
    assert (row["now"]["decision"], row["then"]["rule"]) == ("deny", "OPS-001")
    assert len(records(kernel)) == before
    assert ask(kernel, "show")["version"] == 1


# --- approvals --------------------------------------------------------------------------------------------------------


def test_an_approval_becomes_a_permit_that_is_used_once(asking):
    client = asking.one.client()
    held = approved(asking, client)
    with client.effect(REMOVE, ASK, held) as intent:
        assert intent is not None
    with pytest.raises(GovernanceDenied, match="it was used"), client.effect(REMOVE, ASK, held):
        raise AssertionError("not twice")
    kinds = ("gate.request", "gate.approve", "permit.mint", "permit.use", "gate.intent", "gate.outcome")
    found = records(asking, *kinds, "permit.refuse")
    assert [one.kind for one in found] == [*kinds, "permit.refuse"]
    by = {one.kind: one for one in found}
    assert by["permit.mint"].seq == held.record
    causes = ["gate.approve", "permit.mint", "permit.use", "gate.intent", "gate.outcome"]
    assert [by[kind].header.cause for kind in causes] == [by[kind].seq for kind in kinds[:-1]]
    name = by["permit.mint"].payload["id"].hex()
    assert {by[kind].header.permit for kind in kinds[3:]} == {name}
    assert by["gate.outcome"].payload["permit"] == name
    assert (by["gate.approve"].payload["by"], by["gate.approve"].payload["uid"]) == ("user:ann", 1000)
    assert ask(asking, "pending")["requests"] == []
    row = ask(asking, "pending", all=True)["requests"][0]
    assert (row["state"], row["used_record"], row["alive"]) == ("approved", by["permit.use"].seq, True)
    assert chain.verify(asking.chain_dir).valid


def test_a_failure_is_an_outcome_too(asking):
    client = asking.one.client()
    with pytest.raises(FileNotFoundError), client.effect(REMOVE, ASK, approved(asking, client)):
        raise FileNotFoundError("/srv/old")
    outcome = records(asking, "gate.outcome")[0].payload
    assert (outcome["result"], outcome["error"]) == ("failed", "FileNotFoundError")


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ("altered", "altered"),
        ("arguments", "other arguments"),
        ("action", "another"),
        ("agent", "another|executor"),
        ("nonsense", "no such permit"),
        ("expired", "expired"),
        ("rules", "rules have changed"),
    ],
)
def test_a_permit_is_worth_nothing_otherwise(asking, how, match):
    client = asking.one.client()
    held = approved(asking, client, valid_secs=0.001 if how == "expired" else 60.0)
    token, action, context = held.token, REMOVE, ASK
    if how == "altered":
        token = token[:-1] + bytes([token[-1] ^ 1])
    elif how == "arguments":
        context = {"path": "/srv/new"}
    elif how == "action":
        action = "tool.fs.write_file"
    elif how == "agent":
        client = asking.two.client()
    elif how == "nonsense":
        token = b"x"
    elif how == "rules":
        assert isinstance(supersede(asking, Draft(reason="r", risk_threshold=0.7), Branch.JUDICIAL), p.Done)
    with pytest.raises(GovernanceDenied, match=match), client.effect(action, context, token):
        raise AssertionError("not done")
    refused = records(asking, "permit.refuse")
    assert len(refused) == 1
    assert records(asking, "permit.use", "gate.intent") == []


def test_an_executor_presents_the_permit_of_another(asking):
    asker, executor = asking.one.client(), asking.two.client()
    number = asker.ask(p.GateCheck(REMOVE, ASK, executor=2), p.Decided, 10).decision.request
    assert isinstance(change(asking, gp.ApproveRequest(number, 60.0)), p.Done)
    held = asker.approval(number, 10)
    with pytest.raises(GovernanceDenied, match="executor"), asker.effect(REMOVE, ASK, held):
        raise AssertionError("not by the agent itself")
    with executor.effect(REMOVE, ASK, held.token, of=1):
        pass
    use = records(asking, "permit.use")[0].payload
    assert (use["pid"], use["executor"]) == (1, 2)
    with pytest.raises(GateUnavailable, match="itself only"), executor.effect(REMOVE, ASK, of=1):
        raise AssertionError("without a permit nobody asks for another one")


def test_the_waiting_agent_is_woken(asking):
    client = asking.one.client()
    number = request(client)
    looks = []
    inner = client.pump

    def pump(timeout_s):
        if not looks:
            looks.append(timeout_s)
            assert isinstance(change(asking, gp.ApproveRequest(number, 60.0)), p.Done)
        assert number not in client.noticed
        return inner(timeout_s)

    client.pump = pump
    assert client.approval(number, 20).token
    assert looks


def test_who_asks_does_not_decide_and_what_is_decided_stays(asking):
    number = request(asking.one.client())
    assert change(asking, gp.ApproveRequest(number, 60.0), by="agent:1").code == "gate.denied"
    assert change(asking, gp.ApproveRequest(number, 60.0), by="id-1").code == "gate.denied"
    assert change(asking, gp.ApproveRequest(number, 1e9)).code == "rpc.invalid"
    assert change(asking, gp.ApproveRequest(10**6, 60.0)).code == "rpc.invalid"
    assert change(asking, gp.RefuseRequest(number), reason="").code == "rpc.invalid"
    assert isinstance(change(asking, gp.RefuseRequest(number), reason="not today"), p.Done)
    assert change(asking, gp.ApproveRequest(number, 60.0)).code == "kernel.wrong_state"
    with pytest.raises(GovernanceDenied, match="not today"):
        asking.one.client().approval(number, 10)
    assert records(asking, "permit.mint") == []
    agent = asking.one.client()
    for forbidden in (gp.AskGovernance("show"), gp.ChangeGovernance(gp.ApproveRequest(number, 1.0), "x", 0, "r")):
        assert agent.submit(forbidden).on_done is not None
        with pytest.raises(Exception, match="only the kernel"):
            agent.ask(forbidden, p.Done, 10)
    with pytest.raises(GateUnavailable, match="none of this agent"):
        asking.two.client().approval(number, 10)


def test_a_life_that_ended_gets_no_permit(asking):
    number = request(asking.one.client())
    asking.send(p.DetachClient(1))
    assert change(asking, gp.ApproveRequest(number, 60.0)).code == "kernel.wrong_state"


@pytest.mark.parametrize("kernel_too", [False, True])
def test_queue_and_permits_survive_a_kill(asking, kernel_too):
    client = asking.one.client()
    held = approved(asking, client)
    with client.effect(REMOVE, ASK, held):
        pass
    waits = request(client, context={"path": "/srv/two"})
    fresh = request(client, context={"path": "/srv/three"})
    assert isinstance(change(asking, gp.ApproveRequest(fresh, 60.0)), p.Done)
    unused = client.approval(fresh, 10)
    before = ask(asking, "pending", all=True)["requests"]
    asking.kill_service()
    if kernel_too:
        asking.boot_id = os.urandom(16)
    asking.start()
    after = ask(asking, "pending", all=True)["requests"]
    assert [one | {"alive": None} for one in after] == [one | {"alive": None} for one in before]
    assert {one["alive"] for one in after} == {not kernel_too}
    folded = Approvals()
    for one in records(asking):
        folded.take(one.kind, one.payload, one.seq)
    assert [one.id for one in folded.waiting()] == [one["request"] for one in after if one["state"] == "pending"]
    match = "has ended" if kernel_too else "it was used"
    with pytest.raises(GovernanceDenied, match=match), client.effect(REMOVE, ASK, held):
        raise AssertionError("not twice")
    reply = change(asking, gp.ApproveRequest(waits, 60.0))
    if kernel_too:
        assert reply.code == "kernel.wrong_state", "pids begin anew with each boot"
        with pytest.raises(GovernanceDenied, match="has ended"), client.effect(REMOVE, {"path": "/srv/three"}, unused):
            raise AssertionError("an approval is for one life")
    else:
        assert isinstance(reply, p.Done)
        with client.effect(REMOVE, {"path": "/srv/three"}, unused):
            pass


def test_a_flood_of_requests_is_denied(asking):
    client = asking.one.client()
    for n in range(32):
        assert request(client, context={"path": f"/{n}"}) is not None
    decision = client.gate(REMOVE, {"path": "/one more"})
    assert isinstance(decision, Deny)
    assert "32 requests of this agent" in decision.reason
    assert request(asking.two.client()) is not None, "another agent is not in the way"
    big = asking.two.client().gate(REMOVE, {"path": "x" * 4000})
    assert isinstance(big, Deny)


def test_what_the_kernel_does_for_an_agent_is_an_intent(asking):
    reply = asking.ask(p.GateCheck("agent.spawn", {"program": "echo"}, 1, b"", True))
    assert isinstance(reply.decision, Permit)
    intent = records(asking, "gate.intent")[0]
    assert (intent.seq, intent.payload["pid"], intent.payload["executor"]) == (reply.record, 1, 0)
    assert intent.payload["matched"] == []
    denied = asking.ask(p.GateCheck("agent.spawn", {}, 9, b"", True))
    assert isinstance(denied.decision, Deny)
    assert denied.record is None


def test_cedar_policies_are_asked_as_well_and_the_log_says_so(kernel, tmp_path):
    pytest.importorskip("cedarpy")
    path = tmp_path / "policies.cedar"
    kernel.settings = {"cedar_policies": str(path)}
    path.write_text("permit(principal, action, resource);")
    agent = kernel.agent(1)
    kernel.start()
    client = agent.client()
    assert isinstance(client.gate("agent.spawn"), Permit)
    for text in ('forbid(principal, action == Action::"agent.spawn", resource);' + path.read_text(), None):
        stop(kernel)
        path.unlink() if text is None else path.write_text(text)
        kernel.start()
        assert isinstance(client.gate("agent.spawn"), Permit if text is None else Deny)
    stop(kernel)
    kernel.start()
    told = [one.payload for one in records(kernel, "governance.policies")]
    assert [one["hash"] is not None for one in told] == [True, True, False]
    assert ask(kernel, "show")["policies"] == ""
    assert isinstance(client.gate("tool.exec"), Deny), "it only takes away"
    stop(kernel)
    path.write_text("permit(")
    ready = kernel.start()
    assert isinstance(ready, p.ServiceBootFailed)
    assert "Cedar" in ready.message
    assert kernel.service.wait() == 2
    kernel.channel.close()


def dies_before_the_answer():
    """In the service: die when the answer to a used permit would go out."""
    from weftos.service.loop import ServiceLoop

    inner = ServiceLoop._deliver

    def deliver(self, client, replies, failed, now):
        if any(isinstance(one, p.Decided) and isinstance(one.decision, Permit) for _, one in replies):
            os.kill(os.getpid(), signal.SIGKILL)
        inner(self, client, replies, failed, now)

    ServiceLoop._deliver = deliver


def dies_before_the_intent():
    """In the service: die when the use of a permit is on the disk, and nothing behind it."""
    from weftos.service.governance import Governance

    inner = Governance.put

    def put(self, kind, *args, **more):
        if kind == "gate.intent":
            self._journal.sync()
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(self, kind, *args, **more)

    Governance.put = put


@pytest.mark.parametrize("dying", [dies_before_the_answer, dies_before_the_intent])
def test_a_permit_whose_answer_was_lost_is_answered_again_and_used_once(asking, dying):
    client = asking.one.client()
    held = approved(asking, client)
    stop(asking)
    asking.start(before=dying)
    pending = client.submit(p.GateCheck(REMOVE, ASK, None, held.token, True))
    assert asking.service.wait() == -signal.SIGKILL
    asking.drain()
    asking.channel.close()
    asking.start()
    reply = pending.result(20)
    assert isinstance(reply.decision, Permit)
    use, intent = records(asking, "permit.use", "gate.intent")
    assert (use.kind, intent.kind, intent.header.cause, reply.record) == (
        "permit.use",
        "gate.intent",
        use.seq,
        intent.seq,
    )
    with pytest.raises(GovernanceDenied, match="it was used"), client.effect(REMOVE, ASK, held):
        raise AssertionError("not twice")


def test_an_approval_that_was_cut_off_gets_its_permit(asking):
    """The service dies between the approval and the permit."""
    from weftos.service.governance import Governance

    def dying():
        def mint(self, *args):
            self._journal.sync()
            os.kill(os.getpid(), signal.SIGKILL)

        Governance._mint = mint

    client = asking.one.client()
    number = request(client)
    stop(asking)
    asking.start(before=dying)
    asking.post(gp.ChangeGovernance(gp.ApproveRequest(number, 60.0), "user:ann", 1000, "a test"))
    assert asking.service.wait() == -signal.SIGKILL
    asking.drain()
    asking.channel.close()
    assert records(asking, "permit.mint") == []
    asking.start()
    held = client.approval(number, 20)
    assert [one.seq for one in records(asking, "permit.mint")] == [held.record]
    with client.effect(REMOVE, ASK, held):
        pass
