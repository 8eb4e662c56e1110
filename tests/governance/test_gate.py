"""The gate: what is not in its table, whom it does not know and what lacks a fact is denied; nothing raises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos.governance.capability import AgentCapabilities, ScopeNone, ScopeRestricted, ScopeTopic, ToolPermissions
from weftos.governance.gate import ACTIONS, CapabilityGate, Defer, Deny, Permit, Subject

ALL = AgentCapabilities(can_network=True)
NOTHING = AgentCapabilities(
    tools=ToolPermissions(memory_deny=("*",)),
    can_spawn=False,
    can_ipc=False,
    can_exec_tools=False,
    can_network=False,
    can_store=False,
    ipc_scope=ScopeNone(),
)
FACTS = {"target_pid": 9, "topic": "news", "name": "mail-api", "space": "docs"}


def gate(**agents: AgentCapabilities) -> CapabilityGate:
    subjects = {name[1:]: Subject(int(name[1:]), name, 1, caps, None) for name, caps in agents.items()}
    return CapabilityGate(subjects.get)


@pytest.mark.parametrize("action", sorted(ACTIONS))
def test_every_action_asks_for_its_capability(action):
    rich, poor = gate(_1=ALL), gate(_1=NOTHING)
    reserved = ACTIONS[action].needs is None
    person = ACTIONS[action].person
    assert isinstance(rich.check("1", action, FACTS), Deny if reserved else Defer if person else Permit)
    assert isinstance(poor.check("1", action, FACTS), Defer if person else Deny)
    assert isinstance(poor.check("2", action, FACTS), Deny), "an agent nobody introduced"
    assert isinstance(poor.check("0", action, FACTS), Permit), "the kernel itself"


@pytest.mark.parametrize("action", ["", "ipc", "ipc.send ", "IPC.SEND", "agent.spawn\0", "kernel.halt"])
@pytest.mark.parametrize("agent", ["0", "1"])
def test_an_action_that_is_not_in_the_table_is_denied_to_everybody(action, agent):
    decision = gate(_1=ALL).check(agent, action, FACTS)
    assert isinstance(decision, Deny)
    assert "table" in decision.reason


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(["target_pid", "topic", "pid", "agent_id", "capabilities", "x"])


@given(
    action=st.sampled_from(sorted(ACTIONS)) | st.text(max_size=20),
    agent=st.sampled_from(["0", "1", "2", "", "one", "-1"]),
    context=st.dictionaries(names, values, max_size=4),
)
def test_any_question_gets_one_of_three_answers(action, agent, context):
    decision = gate(_1=ALL).check(agent, action, context)
    assert isinstance(decision, Permit | Defer | Deny)
    if agent not in ("0", "1") or action not in ACTIONS:
        assert isinstance(decision, Deny)


@given(context=st.dictionaries(names, values, max_size=6), action=st.sampled_from(sorted(ACTIONS)))
def test_no_claim_in_the_context_helps_an_agent_that_has_nothing(context, action):
    decision = gate(_1=NOTHING).check("1", action, context | {"capabilities": {"can_spawn": True}, "agent_id": "0"})
    # Messages to the kernel are the one thing that needs no capability.
    if not (action == "ipc.send" and context.get("target_pid") == 0):
        assert isinstance(decision, Defer if ACTIONS[action].person else Deny)


def test_the_scope_decides_about_targets_and_topics():
    friends = gate(_1=AgentCapabilities(ipc_scope=ScopeRestricted((9,))))
    assert isinstance(friends.check("1", "ipc.send", {"target_pid": 9}), Permit)
    assert isinstance(friends.check("1", "ipc.send", {"target_pid": 8}), Deny)
    assert isinstance(friends.check("1", "ipc.send", {}), Deny)
    assert isinstance(friends.check("1", "ipc.send", {"target_pid": "9"}), Deny)
    readers = gate(_1=AgentCapabilities(ipc_scope=ScopeTopic(("news",))))
    assert isinstance(readers.check("1", "ipc.publish", {"topic": "news"}), Permit)
    assert isinstance(readers.check("1", "ipc.subscribe", {"topic": "other"}), Deny)
    assert isinstance(readers.check("1", "ipc.publish", {"topic": 1}), Deny)


def test_a_denial_names_what_is_missing():
    decision = gate(_1=NOTHING).check("1", "agent.spawn", {})
    assert isinstance(decision, Deny)
    assert "can_spawn" in decision.reason
    assert "agent 1" in decision.reason
