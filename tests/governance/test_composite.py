"""Backends together, and the backend of rules: the strictest answer counts, whatever the order, and nothing is lost."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from questions import CONSTITUTION, KEYS, PUBLIC, RULES

from weftos.errors import GovernanceDenied, InvalidRequest
from weftos.governance.articles import EFFECTS
from weftos.governance.capability import AgentCapabilities
from weftos.governance.composite import CompositeGate
from weftos.governance.constitution import GENESIS_KIND, SUPERSEDE_KIND, Genesis
from weftos.governance.draft import Draft, signed
from weftos.governance.environments import STANDARD
from weftos.governance.gate import ACTIONS, Defer, Deny, Permit, Subject
from weftos.governance.rules import Branch, Condition, Rule, Severity
from weftos.governance.standing import GovernanceGate, Standing

AGENT = Subject(7, "cleaner.7", 1, AgentCapabilities(can_network=True))


class Says:
    def __init__(self, decision):
        self.decision = decision

    def check(self, agent_id, action, context):
        return self.decision


DECISIONS = st.one_of(
    st.builds(Permit, st.text(max_size=3)), st.builds(Defer, st.text(max_size=3)), st.builds(Deny, st.text(max_size=3))
)


@given(st.lists(DECISIONS, max_size=6), st.randoms())
def test_the_strictest_of_all_counts_in_any_order(decisions, chance):
    shuffled = list(decisions)
    chance.shuffle(shuffled)
    found = CompositeGate(*map(Says, decisions)).check("1", "x", {})
    assert found == CompositeGate(*map(Says, shuffled)).check("1", "x", {})
    kinds = {type(one) for one in decisions}
    assert type(found) is (Deny if not kinds or Deny in kinds else Defer if Defer in kinds else Permit)


def standing(environment=None):
    found = Standing()
    found.take(GENESIS_KIND, Genesis(keys=PUBLIC).to_payload())
    if environment is not None:
        found.take("env.switch", {"environment": msgspec.to_builtins(STANDARD[environment])})
    return found


def gate(found):
    return GovernanceGate(found, {"7": AGENT}.get)


@pytest.mark.parametrize("action", sorted(ACTIONS))
def test_every_action_has_a_registered_effect(action):
    assert action in EFFECTS, "without one it counts as the worst, and is always denied"


def test_a_decision_explains_itself():
    found = gate(standing("production")).check("7", "agent.spawn", {})
    assert isinstance(found, Defer)
    why = found.why
    assert (why.verdict, why.rule, why.environment) == ("escalate_to_human", "GOV-001", "production")
    assert (why.magnitude, why.threshold) == (0.5, 0.3)
    assert why.constitution == CONSTITUTION.hash
    assert why.matched[0] == "GOV-001"


@pytest.mark.parametrize("effect", [{"risk": float("nan")}, {"risk": 2.0}, {"risk": -1}, "none", {"danger": 0.0}, [1]])
def test_a_claim_that_is_no_effect_is_denied(effect):
    assert isinstance(gate(standing()).check("7", "ipc.send", {"effect": effect}), Deny)


def test_a_claim_can_only_make_it_worse():
    asked = gate(standing())
    assert isinstance(asked.check("7", "ipc.send", {"effect": {"risk": 0.0}}), Permit)
    assert isinstance(asked.check("7", "ipc.send", {"effect": {"risk": 0.9}}), Deny)
    assert isinstance(asked.check("7", "ipc.send", {}), Permit), "the claim of one question is not that of the next"
    assert isinstance(asked.check("7", "tool.exec", {"effect": {"risk": 0.0}}), Deny)


def test_what_is_unknown_is_denied_and_the_kernel_is_not_governed():
    asked = gate(standing("production"))
    assert isinstance(asked.check("7", "tool.fly", {}), Deny)
    assert isinstance(asked.check("0", "agent.spawn", {}), Permit)
    assert isinstance(GovernanceGate(Standing(), {}.get).check("7", "ipc.send", {}), Deny), "before the beginning"


def test_what_is_remembered_goes_with_a_change():
    found = standing()
    asked = gate(found)
    assert isinstance(asked.check("7", "agent.spawn", {}), Permit)
    found.take("env.switch", {"environment": msgspec.to_builtins(STANDARD["production"])})
    assert isinstance(asked.check("7", "agent.spawn", {}), Defer)


def rule(**when):
    return Rule(
        id="OPS-1",
        description="a test",
        branch=Branch.EXECUTIVE,
        severity=Severity.BLOCKING,
        outcome="deny",
        when=Condition(**when),
    )


def superseded(found, *rules):
    change = Draft(reason="a test", rules=rules).on(found.constitution)
    change = signed(found.constitution, change, [KEYS[Branch.EXECUTIVE].private_bytes_raw()])
    found.take(SUPERSEDE_KIND, change.to_payload())
    return found


@pytest.mark.parametrize(
    "when", [{"agents": ("cleaner.*",)}, {"facts": {"target_pid": "9"}}, {"facts": {"loud": "true"}}]
)
def test_a_rule_about_agents_or_facts_is_asked_each_time(when):
    asked = gate(superseded(standing(), rule(actions=("ipc.send",), **when)))
    assert isinstance(asked.check("7", "ipc.send", {"target_pid": 9, "loud": True}), Deny)
    other = asked.check("8", "ipc.send", {"target_pid": 8})
    assert isinstance(other, Permit)
    assert isinstance(asked.check("7", "ipc.send", {"target_pid": 9, "loud": True}), Deny)


QUESTIONS = st.tuples(
    st.sampled_from(sorted(ACTIONS)), st.sampled_from([None, *STANDARD]), st.dictionaries(st.just("a"), st.text())
)


@given(st.lists(RULES, max_size=4, unique_by=lambda one: one.id), st.lists(QUESTIONS, max_size=8))
def test_what_it_remembers_changes_no_answer(rules, questions):
    found = Standing()
    genesis = Genesis(keys=PUBLIC)
    found.take(GENESIS_KIND, msgspec.structs.replace(genesis, rules=(*genesis.rules, *rules)).to_payload())
    asked = gate(found)
    for action, environment, context in questions:
        if environment is not None:
            found.take("env.switch", {"environment": msgspec.to_builtins(STANDARD[environment])})
        assert asked.check("7", action, context) == gate(found).check("7", action, context)


def test_standard_names_stay_what_they_are():
    mine = msgspec.to_builtins(STANDARD["production"]) | {"risk_threshold": 1.0}
    with pytest.raises(InvalidRequest, match="another name"):
        standing().take("env.switch", {"environment": mine})
    found = standing()
    found.take("env.switch", {"environment": mine | {"name": "lab", "environment_class": "custom"}})
    assert (found.environment.name, set(found.custom)) == ("lab", {"lab"})


def test_a_foreign_key_signs_nothing():
    with pytest.raises(GovernanceDenied, match="no branch"):
        signed(CONSTITUTION, Draft(reason="a test", risk_threshold=0.1).on(CONSTITUTION), [bytes(32)])


@pytest.mark.parametrize("text", [b"", b"reason = 1", b'reason = "x"\n[[rule]]\nid = "A"', b"\xff", b"[" * 5000])
def test_a_draft_that_is_none_is_refused(text):
    for as_json in (True, False):
        with pytest.raises(InvalidRequest):
            Draft.parse(text, as_json=as_json)
