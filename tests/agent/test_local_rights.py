"""What an agent may do, as its own client sees it: the same answers as the kernel's, by the newest epoch."""

from __future__ import annotations

import os

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos.agent import frames as f
from weftos.agent.rights import CHECKS, LocalRights, RightsPage, check_action
from weftos.errors import CapabilityDenied, InvalidRequest
from weftos.governance.capability import (
    FLAGS,
    AgentCapabilities,
    ResourceLimits,
    ScopeAll,
    ScopeNone,
    ScopeParentOnly,
    ScopeRestricted,
    ScopeTopic,
    ToolPermissions,
)
from weftos.shm import Bulletin

scopes = st.sampled_from([ScopeAll(), ScopeNone(), ScopeParentOnly(), ScopeRestricted((3,)), ScopeTopic(("t",))])
capabilities = st.builds(
    AgentCapabilities,
    **{name: st.booleans() for name in FLAGS},
    ipc_scope=scopes,
    tools=st.sampled_from([ToolPermissions(), ToolPermissions(deny=("x",), service_deny=("x",), file_deny=("/x",))]),
)
TARGETS = {
    "ipc.send": [0, 2, 3, 4],
    "ipc.publish": ["t", "u"],
    "ipc.subscribe": ["t", "u"],
    "tool.exec": ["x", "y", "bash"],
    "service.call": ["x", "y"],
    "file.use": ["/x", "/y"],
}
PID, PARENT = 1, 2


def page_of(caps):
    return RightsPage(PID, PARENT, caps, ResourceLimits())


def put(page, epoch, caps):
    page.publish(epoch, msgspec.msgpack.encode(page_of(caps)))


@pytest.fixture
def page():
    made = Bulletin()
    yield made
    made.close()


@given(versions=st.lists(capabilities, min_size=1, max_size=4))
def test_answers_are_those_of_the_newest_epoch(versions):
    page = Bulletin()
    rights = LocalRights(os.dup(page.fd), page_of(AgentCapabilities()), lambda _frame: None)
    for epoch, caps in enumerate(versions, 1):
        put(page, epoch, caps)
        assert (rights.epoch, rights.now) == (epoch, caps)
        for action in CHECKS:
            for target in TARGETS.get(action, [None]):
                try:
                    check_action(caps, PID, PARENT, action, target)
                    allowed = True
                except CapabilityDenied:
                    allowed = False
                assert rights.allows(action, target) is allowed
                assert rights.allows(action, target) is allowed, "the second answer is the first"
    page.close()


def test_a_refusal_is_reported_once_for_each_epoch(page):
    told: list[f.Refused] = []
    rights = LocalRights(os.dup(page.fd), page_of(AgentCapabilities()), told.append)
    put(page, 1, AgentCapabilities(can_spawn=False))
    for _ in range(3):
        with pytest.raises(CapabilityDenied, match="can_spawn is false"):
            rights.require("agent.spawn")
    put(page, 2, AgentCapabilities(can_spawn=False, can_store=False))
    with pytest.raises(CapabilityDenied):
        rights.require_for(f.SpawnChild("echo"))
    rights.require_for(f.OpenChannel(pid=5))
    assert told == [f.Refused("agent.spawn"), f.Refused("agent.spawn")]


def test_without_a_page_what_counted_at_the_start_is_known():
    rights = LocalRights(-1, page_of(AgentCapabilities(can_spawn=False)), lambda _frame: None)
    assert (rights.epoch, rights.allows("agent.spawn"), rights.allows("ipc.send", 9)) == (0, False, True)


def test_an_action_that_needs_more_than_capabilities_is_not_decided_here(page):
    put(page, 1, AgentCapabilities())
    rights = LocalRights(os.dup(page.fd), page_of(AgentCapabilities()), lambda _frame: None)
    with pytest.raises(InvalidRequest, match="none of the actions that capabilities decide"):
        rights.allows("kernel.shutdown")
