"""Capabilities: the whole scope matrix, and that a child never holds what its parent does not."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos.errors import CapabilityDenied, ResourceLimitExceeded
from weftos.governance.capability import (
    AgentCapabilities,
    IpcScope,
    ResourceLimits,
    ScopeAll,
    ScopeNone,
    ScopeParentOnly,
    ScopeRestricted,
    ScopeTopic,
    check_broadcast,
    check_child,
    check_message,
    check_topic,
    parse_scope,
)

SELF, PARENT, FRIEND, STRANGER = 7, 3, 11, 13
SCOPES: list[IpcScope] = [ScopeAll(), ScopeParentOnly(), ScopeRestricted((FRIEND,)), ScopeTopic(("news",)), ScopeNone()]
#: Scope, and whether it allows: parent, friend, stranger, topic "news", topic "other", broadcast.
MATRIX = [
    (SCOPES[0], (True, True, True, True, True, True)),
    (SCOPES[1], (True, False, False, False, False, False)),
    (SCOPES[2], (False, True, False, False, False, False)),
    (SCOPES[3], (False, False, False, True, False, False)),
    (SCOPES[4], (False, False, False, False, False, False)),
]

pids = st.integers(min_value=1, max_value=6)
topics = st.sampled_from(["a", "b", "c"])
scopes = st.one_of(
    st.builds(ScopeAll),
    st.builds(ScopeParentOnly),
    st.builds(ScopeNone),
    st.builds(ScopeRestricted, st.lists(pids, max_size=4).map(tuple)),
    st.builds(ScopeTopic, st.lists(topics, max_size=3).map(tuple)),
)
capabilities = st.builds(
    AgentCapabilities,
    can_spawn=st.booleans(),
    can_ipc=st.booleans(),
    can_exec_tools=st.booleans(),
    can_network=st.booleans(),
    can_store=st.booleans(),
    ipc_scope=scopes,
)


def allowed(check, *args) -> bool:
    try:
        check(*args)
    except CapabilityDenied:
        return False
    return True


def reach(caps: AgentCapabilities, pid: int, parent: int) -> set[object]:
    """Everything that an agent may message or use, out of a small world."""
    found: set[object] = {t for t in range(1, 7) if t != pid and allowed(check_message, caps, pid, t, parent)}
    found |= {name for name in "abc" if allowed(check_topic, caps, pid, name)}
    if allowed(check_broadcast, caps, pid):
        found.add("broadcast")
    return found


@pytest.mark.parametrize(("scope", "expected"), MATRIX, ids=lambda value: type(value).__name__)
def test_the_scope_matrix(scope, expected):
    caps = AgentCapabilities(ipc_scope=scope)
    found = (
        allowed(check_message, caps, SELF, PARENT, PARENT),
        allowed(check_message, caps, SELF, FRIEND, PARENT),
        allowed(check_message, caps, SELF, STRANGER, PARENT),
        allowed(check_topic, caps, SELF, "news"),
        allowed(check_topic, caps, SELF, "other"),
        allowed(check_broadcast, caps, SELF),
    )
    assert found == expected


@pytest.mark.parametrize("scope", SCOPES, ids=lambda scope: type(scope).__name__)
def test_the_kernel_is_always_in_reach_and_without_can_ipc_nothing_else(scope):
    mute = AgentCapabilities(can_ipc=False, ipc_scope=scope)
    check_message(mute, SELF, 0, PARENT)
    for target in (PARENT, FRIEND, STRANGER):
        assert not allowed(check_message, mute, SELF, target, PARENT)
    assert not allowed(check_topic, mute, SELF, "news")
    assert not allowed(check_broadcast, mute, SELF)


def test_an_agent_without_parent_reaches_nobody_by_parent_only():
    caps = AgentCapabilities(ipc_scope=ScopeParentOnly())
    assert not any(allowed(check_message, caps, SELF, target, None) for target in range(1, 20))


@given(parent=capabilities, child=capabilities)
def test_a_child_that_is_let_through_can_do_nothing_that_its_parent_cannot(parent, child):
    parent_pid, child_pid, grandparent = 1, 6, 2
    if not allowed(check_child, parent_pid, parent, child):
        return
    assert parent.can_spawn
    for flag in ("can_spawn", "can_ipc", "can_exec_tools", "can_network", "can_store"):
        assert getattr(parent, flag) or not getattr(child, flag)
    # Its own parent is always within its reach; everything else must be within its parent's.
    beyond = reach(child, child_pid, parent_pid) - reach(parent, parent_pid, grandparent) - {parent_pid, child_pid}
    assert not beyond


@given(caps=capabilities)
def test_a_copy_of_the_parent_is_refused_only_for_want_of_can_spawn(caps):
    assert allowed(check_child, 1, caps, caps) == caps.can_spawn


@given(caps=capabilities)
def test_the_least_child_is_always_within(caps):
    least = AgentCapabilities(
        can_spawn=False,
        can_ipc=False,
        can_exec_tools=False,
        can_network=False,
        can_store=False,
        ipc_scope=ScopeNone(),
    )
    assert allowed(check_child, 1, caps, least) == caps.can_spawn


@given(caps=capabilities)
def test_capabilities_survive_the_wire(caps):
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(caps), type=AgentCapabilities) == caps
    assert msgspec.json.decode(msgspec.json.encode(caps), type=AgentCapabilities) == caps


def test_an_unknown_capability_is_refused_on_the_wire():
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"can_fly": true}', type=AgentCapabilities)


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("all", ScopeAll()),
        ("parent-only", ScopeParentOnly()),
        ("none", ScopeNone()),
        ("restricted:3,5", ScopeRestricted((3, 5))),
        ("restricted:", ScopeRestricted(())),
        ("topic:a,b", ScopeTopic(("a", "b"))),
    ],
)
def test_scopes_parse(text, scope):
    assert parse_scope(text) == scope


@pytest.mark.parametrize(
    "text", ["", "ALL", "all:1", "none:x", "restricted:x", "restricted:-1", "everything", "parent"]
)
def test_other_scopes_do_not(text):
    with pytest.raises(CapabilityDenied):
        parse_scope(text)


@pytest.mark.parametrize("name", ResourceLimits.__struct_fields__)
def test_limits_are_zero_or_positive_and_large_enough_to_start(name):
    ResourceLimits(**{name: 0}).check_range()
    ResourceLimits(**{name: 1 << 30}).check_range()
    for bad in (-1, 1 << 62):
        with pytest.raises(ResourceLimitExceeded, match=name):
            ResourceLimits(**{name: bad}).check_range()
    if name in ("memory_bytes", "descriptors"):
        with pytest.raises(ResourceLimitExceeded, match=name):
            ResourceLimits(**{name: 1}).check_range()


@given(st.lists(scopes, min_size=3, max_size=3))
def test_being_within_is_transitive_down_a_line_of_agents(line):
    caps = [AgentCapabilities(ipc_scope=scope) for scope in line]
    reaches = [reach(c, pid, pid - 1) for c, pid in zip(caps, (1, 2, 3), strict=True)]
    if all(allowed(check_child, pid, a, b) for pid, (a, b) in enumerate(itertools.pairwise(caps), 1)):
        assert reaches[2] - {1, 2} <= reaches[0] | {1, 2, 3}
