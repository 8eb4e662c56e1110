"""Cedar beside the other backends: it takes away, remembers, and denies what it cannot decide."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos.errors import ConfigError
from weftos.governance.capability import AgentCapabilities
from weftos.governance.cedar import CedarGate
from weftos.governance.composite import CompositeGate
from weftos.governance.gate import CapabilityGate, Deny, Permit, Subject

pytest.importorskip("cedarpy")

POLICIES = """
permit(principal, action, resource);
forbid(principal == Agent::"echo.1", action == Action::"agent.spawn", resource)
    when { context has program && context.program like "evil*" };
forbid(principal, action == Action::"net.connect", resource) when { context.port > 1024 };
"""
AGENTS = {"1": Subject(1, "echo.1", 1, AgentCapabilities()), "2": Subject(2, "echo.2", 1, AgentCapabilities())}
GATE = CedarGate(POLICIES, AGENTS.get)


def test_policies_decide_about_agents_actions_and_facts():
    assert isinstance(GATE.check("1", "agent.spawn", {"program": "echo"}), Permit)
    denied = GATE.check("1", "agent.spawn", {"program": "evil.py"})
    assert isinstance(denied, Deny)
    assert "policy1" in denied.reason
    assert isinstance(GATE.check("2", "agent.spawn", {"program": "evil.py"}), Permit)
    assert isinstance(GATE.check("9", "ipc.send", {}), Deny)
    assert isinstance(GATE.check("0", "agent.spawn", {"program": "evil.py"}), Permit)


def test_a_policy_that_fails_denies():
    assert isinstance(GATE.check("1", "net.connect", {"port": 80}), Permit)
    for context in ({}, {"port": "80"}, {"port": 8080.0}):
        assert isinstance(GATE.check("1", "net.connect", context), Deny), context


def test_it_can_only_take_away():
    both = CompositeGate(CapabilityGate(AGENTS.get), GATE)
    assert isinstance(both.check("1", "net.connect", {"port": 80}), Deny), "no capability, whatever Cedar says"
    assert isinstance(both.check("1", "agent.spawn", {}), Permit)


def test_without_a_policy_nothing_is_permitted_and_nonsense_is_refused():
    assert isinstance(CedarGate("", AGENTS.get).check("1", "agent.spawn", {}), Deny)
    with pytest.raises(ConfigError, match="cannot be read"):
        CedarGate("permit(", AGENTS.get)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.text(max_size=6), values, max_size=4), st.text(max_size=8))
def test_any_question_is_answered_and_the_same_twice(context, action):
    first = GATE.check("1", action, context)
    assert isinstance(first, Permit | Deny)
    assert GATE.check("1", action, context) == first
