"""Access: denied by default, decided by the nearest node, denial first, and never answered from an old memory."""

from __future__ import annotations

from typing import Any

import pytest
from deltas_for_tests import ACTIONS, LABELS, PATHS, POLICIES, ROLES
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from trees_for_tests import Log, P, booted

from weftos.errors import CapabilityDenied, NodeInvalid, TreeError
from weftos.tree.acl import Decision, EffectiveAcl, decide
from weftos.tree.deltas import Created, PolicyRemoved, PolicySet, Removed
from weftos.tree.names import Action, Kind, Role
from weftos.tree.paths import ResourcePath
from weftos.tree.policies import Policy

READ, WRITE = Action("read"), Action("write")
VIEWER, OWNER = Role("viewer"), Role("owner")


def put(log: Log, path: str, policy_id: str, *args: Any) -> None:
    log.add(PolicySet(path=P(path), policy_id=policy_id, policy=Policy(*args)))


def ask(log: Log, path: str, principal: str = "alice", role: Role = VIEWER, action: Action = READ) -> Decision:
    return decide(log.tree, principal, role, action, P(path))


def test_silence_denies() -> None:
    decision = ask(booted(), "/apps")
    assert (decision.allowed, decision.path, decision.policy_id) == (False, None, None)
    assert decision.reason == "no policy from /apps up to / speaks about read by alice as viewer"


def test_inheritance_and_exceptions() -> None:
    log = booted()
    put(log, "/kernel", "k", "allow", "alice")
    assert ask(log, "/kernel/agents").allowed, "below"
    assert ask(log, "/kernel/agents/not/yet/there").allowed, "what is to be created"
    assert not ask(log, "/apps").allowed, "beside"
    assert not ask(log, "/").allowed, "above"
    assert not ask(log, "/kernel", "bob").allowed
    put(log, "/kernel/agents", "a", "deny", "alice")
    assert not ask(log, "/kernel/agents").allowed
    assert not ask(log, "/kernel/agents/x").allowed
    assert ask(log, "/kernel/services").allowed
    log.make("/kernel/agents/x", "agent")
    put(log, "/kernel/agents/x", "x", "allow", "alice")
    assert ask(log, "/kernel/agents/x").allowed, "the nearest decides"
    decision = ask(log, "/kernel/agents/y")
    assert (decision.path, decision.policy_id) == (P("/kernel/agents"), "a")
    assert decision.reason == "policy 'a' on /kernel/agents denies read on /kernel/agents/y to alice as viewer"


def test_denial_comes_first_on_a_node() -> None:
    for order in (("allow", "deny"), ("deny", "allow")):
        log = booted()
        for policy_id, effect in zip("pq", order, strict=True):
            put(log, "/apps", policy_id, effect)
        assert not ask(log, "/apps").allowed
    put(log, "/apps", "p", "deny", "bob")
    assert ask(log, "/apps").allowed, "a denial that is about somebody else"


@pytest.mark.parametrize(
    ("policy", "allowed"),
    [
        (Policy("allow"), True),
        (Policy("allow", "alice", VIEWER, READ), True),
        (Policy("allow", "alic", VIEWER, READ), False),
        (Policy("allow", "alice", OWNER, READ), False),
        (Policy("allow", "alice", VIEWER, WRITE), False),
        (Policy("allow", None, VIEWER, None), True),
        (Policy("allow", None, None, Action("admin")), False),
    ],
)
def test_all_that_a_policy_names_must_match(policy: Policy, allowed: bool) -> None:
    log = booted()
    log.add(PolicySet(path=P("/apps"), policy_id="p", policy=policy))
    assert ask(log, "/apps").allowed is allowed


def test_a_path_that_begins_alike_is_another() -> None:
    log = booted()
    log.make("/kernel/agents/a", "agent")
    put(log, "/kernel/agents/a", "p", "allow", "alice")
    assert ask(log, "/kernel/agents/a/memory").allowed
    assert not ask(log, "/kernel/agents/ab").allowed
    with pytest.raises(TreeError):
        ask(log, "/kernel/agents/a/../b")


def test_the_memory_knows_the_role() -> None:
    log = booted()
    put(log, "/apps", "p", "allow", None, OWNER)
    acl = EffectiveAcl(log.tree)
    assert acl.decide("alice", OWNER, READ, P("/apps")).allowed
    assert not acl.decide("alice", VIEWER, READ, P("/apps")).allowed
    assert acl.decide("alice", OWNER, READ, P("/apps")).allowed
    counts = acl.statistics()
    assert (counts.hits, counts.misses, counts.entries) == (1, 2, 2)


def test_the_memory_follows_policies_further_up() -> None:
    log = booted()
    log.make("/kernel/agents/a", "agent")
    acl = EffectiveAcl(log.tree)
    question = ("alice", VIEWER, READ, P("/kernel/agents/a"))
    assert not acl.decide(*question).allowed
    put(log, "/kernel", "p", "allow", "alice")
    assert acl.decide(*question).allowed
    put(log, "/kernel", "p", "deny", "alice")
    assert not acl.decide(*question).allowed
    put(log, "/", "q", "allow", "alice")
    log.add(PolicyRemoved(path=P("/kernel"), policy_id="p"))
    assert acl.decide(*question).path == P("/")
    log.add(PolicyRemoved(path=P("/"), policy_id="q"))
    assert not acl.decide(*question).allowed


def test_a_removed_node_takes_its_policies_along() -> None:
    log = booted()
    log.make("/apps/a", "app")
    put(log, "/apps/a", "p", "allow")
    acl = EffectiveAcl(log.tree)
    assert acl.decide("alice", VIEWER, READ, P("/apps/a")).allowed
    log.add(Removed(path=P("/apps/a")))
    assert not acl.decide("alice", VIEWER, READ, P("/apps/a")).allowed
    log.make("/apps/a", "app")
    assert not acl.decide("alice", VIEWER, READ, P("/apps/a")).allowed


def test_the_memory_is_bounded_and_drops_the_oldest() -> None:
    log = booted()
    acl = EffectiveAcl(log.tree, capacity=3)
    for name in ("a", "b", "c", "a", "d"):
        acl.decide(name, VIEWER, READ, P("/apps"))
    assert acl.statistics().entries == 3
    acl.decide("a", VIEWER, READ, P("/apps"))
    acl.decide("b", VIEWER, READ, P("/apps"))
    counts = acl.statistics()
    assert (counts.hits, counts.misses) == (2, 5), "b was the oldest when d came"


def test_require() -> None:
    log = booted()
    acl = EffectiveAcl(log.tree)
    with pytest.raises(CapabilityDenied, match="no policy from /apps"):
        acl.require("alice", VIEWER, READ, P("/apps"))
    put(log, "/apps", "p", "allow")
    assert acl.require("alice", VIEWER, READ, P("/apps")).policy_id == "p"


@pytest.mark.parametrize(
    "question",
    [("", VIEWER, READ, P("/")), (None, VIEWER, READ, P("/")), ("a", "viewer", READ, P("/")),
     ("a", VIEWER, "read", P("/")), ("a", VIEWER, READ, "/"), ("a", READ, VIEWER, P("/"))],
)  # fmt: skip
def test_questions_must_have_their_form(question: Any) -> None:
    log = booted()
    put(log, "/", "p", "allow")
    acl = EffectiveAcl(log.tree)
    for _ in range(2):
        with pytest.raises(NodeInvalid):
            acl.decide(*question)


class AclMachine(RuleBasedStateMachine):
    """The memory against an answer from a plain list of policies, made by the rule alone."""

    @initialize()
    def begin(self) -> None:
        self.log = Log()
        self.acl = EffectiveAcl(self.log.tree, capacity=20)
        self.policies: dict[str, dict[str, Policy]] = {}

    def node(self, path: ResourcePath) -> None:
        for above in (*reversed(path.ancestors), path):
            if above not in self.log.tree:
                self.log.add(Created(path=above, kind=Kind("app")))

    @rule(path=PATHS, policy_id=LABELS, policy=POLICIES)
    def put(self, path: ResourcePath, policy_id: str, policy: Policy) -> None:
        self.node(path)
        self.log.add(PolicySet(path=path, policy_id=policy_id, policy=policy))
        self.policies.setdefault(str(path), {})[policy_id] = policy

    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        places = sorted((path, name) for path, named in self.policies.items() for name in named)
        if places:
            path, name = data.draw(st.sampled_from(places))
            self.log.add(PolicyRemoved(path=P(path), policy_id=name))
            del self.policies[path][name]

    @rule(path=PATHS)
    def remove(self, path: ResourcePath) -> None:
        try:
            self.log.add(Removed(path=path))
        except TreeError:
            return
        self.policies.pop(str(path), None)

    @rule(path=PATHS, principal=LABELS, role=ROLES, action=ACTIONS)
    def ask(self, path: ResourcePath, principal: str, role: Role, action: Action) -> None:
        answer = False
        for end in range(path.depth, -1, -1):
            above = "/" + "/".join(path.segments[:end])
            effects = {
                policy.effect
                for policy in self.policies.get(above, {}).values()
                if policy.principal in (None, principal)
                and policy.role in (None, role)
                and policy.action in (None, action)
            }
            if effects:
                answer = "deny" not in effects
                break
        for _ in range(2):
            assert self.acl.decide(principal, role, action, path).allowed is answer


TestAcl = AclMachine.TestCase
TestAcl.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
