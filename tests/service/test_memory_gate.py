"""Every request about memory passes the gate, and what a person has to approve happens once, under a permit."""

from __future__ import annotations

import pytest
from test_governance_service import ask, records, supersede

from weftos.errors import GateDeferred, GovernanceDenied
from weftos.governance.capability import AgentCapabilities, ToolPermissions
from weftos.governance.draft import Draft
from weftos.governance.gate import ACTIONS
from weftos.governance.rules import Branch, Condition, Rule, Severity
from weftos.service import governance_protocol as p
from weftos.service.ecc_desk import ECC_HANDLERS
from weftos.service.ecc_protocol import (
    AskMemory,
    DropCollection,
    EmbedMemory,
    EmitImpulses,
    ForgetMemory,
    GetMemory,
    LinkCauses,
    LinkCrossRefs,
    MakeCollection,
    RunMemory,
    SearchMemory,
    UnlinkCauses,
)
from weftos.service.ecc_questions import QUESTIONS
from weftos.service.memory import Memory
from weftos.service.memory_permits import ACTIONS as SHOWN

NODE = bytes(32)
#: One of each request, and the action by which the gate is asked.
REQUESTS = {
    SearchMemory: ("ecc.search", SearchMemory("s", b"\0" * 8, 1, 1)),
    EmbedMemory: ("ecc.embed", EmbedMemory("s", ["a"], b"\0" * 8, [{}], [b""])),
    ForgetMemory: ("ecc.forget", ForgetMemory("s", ["a"])),
    GetMemory: ("ecc.search", GetMemory("s", ["a"])),
    MakeCollection: ("ecc.collection.create", MakeCollection("s", 2)),
    DropCollection: ("ecc.collection.drop", DropCollection("s")),
    LinkCauses: ("ecc.causal.link", LinkCauses("s", [(NODE, "a")], [])),
    UnlinkCauses: ("ecc.causal.unlink", UnlinkCauses("s", NODE)),
    LinkCrossRefs: ("ecc.crossref.create", LinkCrossRefs("s", [(NODE, 1, NODE, 1, 1)])),
    EmitImpulses: ("ecc.impulse.emit", EmitImpulses("s", [(1, 1, NODE, 1, {})])),
}


def rule(outcome, *actions):
    return Rule(
        id="OPS-007",
        description="memory is looked after",
        branch=Branch.EXECUTIVE,
        severity=Severity.BLOCKING,
        outcome=outcome,
        when=Condition(actions=actions),
    )


def test_every_request_is_here_and_every_action_is_asked_for():
    assert REQUESTS.keys() | {AskMemory, RunMemory} == ECC_HANDLERS.keys()
    questions = {one.action for one in QUESTIONS.values() if one.action is not None}
    asked = {action for action, _ in REQUESTS.values()} | questions
    assert asked == {name for name, one in ACTIONS.items() if one.inside}
    assert {kind: action for kind, (action, _) in REQUESTS.items() if "permit" in kind.__struct_fields__} == SHOWN


def test_nothing_in_memory_can_be_reached_past_the_gate(kernel):
    kernel.start()
    client = kernel.agent(1, AgentCapabilities(tools=ToolPermissions(memory_deny=("s",)))).client()
    for action, request in REQUESTS.values():
        with pytest.raises(GovernanceDenied, match=action):
            client.submit(request).result()
    for name, question in QUESTIONS.items():
        with pytest.raises(GovernanceDenied if question.action else Exception, match=r"memory space|only the kernel"):
            client.submit(AskMemory(name, "s")).result()
    with pytest.raises(Exception, match="only the kernel"):
        client.submit(RunMemory("tick")).result()
    denied = [one.payload["action"] for one in records(kernel, "gate.deny")]
    assert denied == [action for action, _ in REQUESTS.values()] + [
        one.action for one in QUESTIONS.values() if one.action is not None
    ]
    assert not (kernel.home / "chain.ecc").exists(), "what was refused made nothing"
    assert kernel.stop_service() == 0


def test_rules_count_for_memory_at_once(kernel):
    kernel.start()
    client = kernel.agent(1).client()
    memory = Memory(client)
    memory.remember("before")
    supersede(kernel, Draft(reason="r", rules=(rule("deny", "ecc.embed", "ecc.search"),)))
    with pytest.raises(GovernanceDenied, match="OPS-007"):
        memory.remember("after")
    with pytest.raises(GovernanceDenied, match="OPS-007"):
        memory.recall("before")
    assert kernel.stop_service() == 0


def test_what_a_person_approved_is_done_once_and_on_the_log(kernel):
    kernel.start()
    client = kernel.agent(1, scope="keeper").client()
    memory = Memory(client)
    ids = memory.remember(["one", "two"])
    supersede(kernel, Draft(reason="r", rules=(rule("require_approval", "ecc.forget"),)))
    with pytest.raises(GateDeferred):
        memory.forget(ids[0])
    waiting = ask(kernel, "pending")["requests"]
    assert [(one["action"], one["context"]) for one in waiting] == [("ecc.forget", {"space": "agent/keeper"})]
    number = client.gate("ecc.forget", {"space": "agent/keeper"}).request
    kernel.ask(p.ChangeGovernance(p.ApproveRequest(number, 600.0), "user:ann", 1000, "it is old"))
    held = client.require("ecc.forget", {"space": "agent/keeper"}, wait_s=10)
    client.held = held
    assert memory.forget(ids[0]) == 1
    with pytest.raises(GovernanceDenied, match="it was used"):
        memory.forget(ids[1])
    client.held = None
    assert set(memory.ids()) == {ids[1]}
    kinds = [one.kind for one in records(kernel, "permit.use", "gate.intent", "gate.outcome", "permit.refuse")]
    assert kinds == ["permit.use", "gate.intent", "gate.outcome", "permit.refuse"]
    intent, outcome = (records(kernel, f"gate.{what}")[-1] for what in ("intent", "outcome"))
    assert outcome.payload["intent"] == intent.seq
    assert (outcome.payload["result"], outcome.payload["action"]) == ("done", "ecc.forget")
    assert kernel.stop_service() == 0
