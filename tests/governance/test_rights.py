"""Rights: given, taken, narrowed; under any sequence of changes no child holds more than its parent."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from weftos import limits
from weftos.errors import CapabilityDenied, InvalidRequest
from weftos.governance.capability import (
    FLAGS,
    AgentCapabilities,
    ResourceLimits,
    SandboxPolicy,
    ScopeAll,
    ScopeNone,
    ScopeParentOnly,
    ScopeRestricted,
    ScopeTopic,
    ToolPermissions,
    check_file,
    check_service,
    check_tool,
)
from weftos.governance.permissions import PROFILES
from weftos.governance.rights import NAMES, Rights, add, lacking, narrow, take
from weftos.governance.roles import ROLES, check_agency, role_named

TOOLS = ["*", "fs.*", "fs.read", "fs.re*", "net.*", "net.get", "x"]
WORLD_TOOLS = ["fs.read", "fs.write", "fs.re", "net.get", "net.put", "x", "y"]
PATHS = ["/", "/a", "/a/b", "/ab", "/c"]
WORLD_PATHS = ["/", "/a", "/a/x", "/a/b", "/a/b/c", "/ab", "/c/d", "/e"]

names = st.lists(st.sampled_from(TOOLS), max_size=3).map(tuple)
paths = st.lists(st.sampled_from(PATHS), max_size=3).map(tuple)
tools = st.builds(
    ToolPermissions,
    allow=names,
    deny=names,
    service_access=names,
    service_deny=names,
    file_access=paths,
    file_deny=paths,
)
sandboxes = st.builds(
    SandboxPolicy,
    profile=st.sampled_from(PROFILES),
    readable=paths,
    writable=paths,
    network=st.booleans(),
    allow_shell=st.booleans(),
)
scopes = st.one_of(
    st.builds(ScopeAll),
    st.builds(ScopeParentOnly),
    st.builds(ScopeNone),
    st.builds(ScopeRestricted, st.lists(st.integers(1, 5), max_size=4).map(tuple)),
    st.builds(ScopeTopic, st.lists(st.sampled_from("abc"), max_size=3).map(tuple)),
)
amounts = st.sampled_from([0, 16, 1 << 20, 1 << 30])
bounds = st.builds(
    ResourceLimits, memory_bytes=st.sampled_from([0, 1 << 20, 1 << 30]), descriptors=amounts, messages=amounts
)
capabilities = st.builds(
    AgentCapabilities,
    **{name: st.booleans() for name in FLAGS},
    ipc_scope=scopes,
    tools=tools,
    sandbox=sandboxes,
)
rights = st.builds(Rights, capabilities, bounds)
PARENT = 1


def let_through(permissions: ToolPermissions) -> set[str]:
    """Everything of a small world that a list lets through."""
    found = {f"tool {name}" for name in WORLD_TOOLS if permissions.lets_tool(name)}
    found |= {f"service {name}" for name in WORLD_TOOLS if permissions.lets_service(name)}
    return found | {f"file {path}" for path in WORLD_PATHS if permissions.lets_file(path)}


@given(ours=tools, theirs=tools)
def test_what_is_within_lets_nothing_through_that_the_other_does_not(ours, theirs):
    if not ours.beyond(theirs):
        assert let_through(ours) <= let_through(theirs)


@given(ours=tools, theirs=tools)
def test_the_meet_lets_through_exactly_what_both_do(ours, theirs):
    assert let_through(ours.meet(theirs)) == let_through(ours) & let_through(theirs)


@given(ours=tools, theirs=tools)
def test_a_list_is_within_itself_and_the_meet_within_both(ours, theirs):
    meet = ours.meet(theirs)
    assert (ours.beyond(ours), meet.beyond(ours), meet.beyond(theirs)) == ([], [], [])


@given(child=rights, parent=rights)
def test_what_is_narrowed_is_within_both(child, parent):
    kept = narrow(child, parent, PARENT)
    assert lacking(kept, parent, PARENT) == []
    # Messages to the parent need no right of their own, so a child may keep what it had no name for.
    beyond = [what for what in lacking(kept, child, PARENT) if not what.startswith("ipc_scope")]
    assert beyond == []
    assert narrow(kept, parent, PARENT) == kept


@given(child=rights, parent=rights)
def test_what_was_within_before_stays_as_it_is(child, parent):
    if not lacking(child, parent, PARENT):
        assert narrow(child, parent, PARENT) == child


@given(held=rights, texts=st.lists(st.sampled_from(NAMES), min_size=1, max_size=3), data=st.data())
def test_giving_never_takes_and_taking_never_gives(held, texts, data):
    values = ["", *TOOLS, *PATHS, "all", "none", "topic:a", "restricted:1", "strict", "trusted", "0", "16", "1048576"]
    named = [f"{name}={value}" if (value := data.draw(st.sampled_from(values))) else name for name in texts]
    for change, within in ((add, lambda more: lacking(held, more, -1)), (take, lambda less: lacking(less, held, -1))):
        try:
            found = change(held, named)
        except InvalidRequest:
            continue
        assert within(found) == []
        assert change(found, named) == found, "once more changes nothing"


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_is_given_and_taken(name):
    without = take(Rights(add(Rights(), [name]).capabilities), [name])
    assert not getattr(without.capabilities, name)
    assert getattr(add(without, [name]).capabilities, name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("can_fly", "there is no right 'can_fly'"),
        ("can_spawn=1", "it takes no value"),
        ("tools", "tools takes a value: tools=fs.*"),
        ("tools=*a", "at its end at most"),
        ("files=a", "no absolute path"),
        ("files=/a/../b", "no absolute path"),
        ("sandbox=none", "none of trusted, standard, strict"),
        ("ipc_scope=some", "is none of"),
        ("limits.messages=-1", "no whole number"),
        ("limits.descriptors=3", "out of range"),
        ("ipc_scope=none", "would take away ipc_scope All"),
        ("limits.messages=1", "would take away limits.messages"),
    ],
)
def test_what_makes_no_sense_is_refused(text, said):
    with pytest.raises(InvalidRequest) as caught:
        add(Rights(), [text])
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["sandbox=trusted", "limits.messages=0", "ipc_scope=all"])
def test_taking_what_would_give_is_refused(text):
    held = Rights(AgentCapabilities(ipc_scope=ScopeNone()), ResourceLimits(messages=5))
    with pytest.raises(InvalidRequest, match="would add"):
        take(held, [text])


def refused(check, *args) -> str:
    with pytest.raises(CapabilityDenied) as caught:
        check(*args)
    return str(caught.value)


def test_a_denial_wins_and_an_empty_list_allows_all():
    caps = AgentCapabilities(tools=ToolPermissions(allow=("fs.*",), deny=("fs.write",), service_deny=("bank",)))
    check_tool(caps, 1, "fs.read")
    check_tool(AgentCapabilities(), 1, "anything")
    check_service(caps, 1, "shop")
    assert "'fs.write'" in refused(check_tool, caps, 1, "fs.write")
    assert "'net.get'" in refused(check_tool, caps, 1, "net.get")
    assert "'bank'" in refused(check_service, caps, 1, "bank")
    assert "can_exec_tools" in refused(check_tool, AgentCapabilities(can_exec_tools=False), 1, "fs.read")


def test_shells_need_a_sandbox_that_allows_them():
    assert "shells" in refused(check_tool, AgentCapabilities(), 1, "bash")
    check_tool(AgentCapabilities(sandbox=SandboxPolicy(allow_shell=True)), 1, "bash")


@pytest.mark.parametrize("path", ["a", "", "/a/../etc", "/a/./b"])
def test_a_path_that_could_mean_another_is_refused(path):
    assert repr(path) in refused(check_file, AgentCapabilities(), 1, path)


def test_files_stand_for_themselves_and_what_is_below():
    caps = AgentCapabilities(tools=ToolPermissions(file_access=("/a",), file_deny=("/a/b",)))
    for path in ("/a", "/a/", "/a/c"):
        check_file(caps, 1, path)
    for path in ("/ab", "/a/b", "/a/b/c", "/"):
        refused(check_file, caps, 1, path)


def test_lists_on_the_wire_are_checked():
    for wrong in (
        b'{"tools": {"allow": ["a*b"]}}',
        b'{"sandbox": {"readable": ["x"]}}',
        b'{"sandbox": {"profile": "no"}}',
    ):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(wrong, type=AgentCapabilities)


def test_a_list_that_grew_too_long_denies_everything():
    ours = ToolPermissions(deny=tuple(f"a{n}" for n in range(limits.RIGHTS_LIST_MAX)))
    theirs = ToolPermissions(deny=tuple(f"b{n}" for n in range(limits.RIGHTS_LIST_MAX)))
    assert not ours.meet(theirs).lets_tool("x")


# --- roles ------------------------------------------------------------------------------------------------------------


def test_roles_say_whom_one_may_start():
    check_agency(0, "", 0, "root")
    check_agency(1, "root", 10_000, "supervisor")
    check_agency(1, "supervisor", 0, "worker")
    check_agency(1, "", 0, "supervisor")
    for parent, child in (("root", "root"), ("supervisor", "user"), ("service", "service"), ("worker", "worker"),
                          ("supervisor", ""), ("", "root"), ("custom:x", "worker")):  # fmt: skip
        refused(check_agency, 1, parent, 0, child)
    most = limits.AGENCY_SERVICE_CHILDREN
    assert f"has {most} children" in refused(check_agency, 1, "service", most, "worker")
    check_agency(1, "service", most - 1, "worker")


def test_a_role_of_ones_own_has_a_name():
    assert role_named("custom:auditor") is not None
    for wrong in ("custom:", "boss", "custom:a b", "Root"):
        with pytest.raises(InvalidRequest):
            role_named(wrong)


@pytest.mark.parametrize("name", ROLES)
def test_no_role_but_root_has_what_the_default_has_not(name):
    beyond = lacking(Rights(ROLES[name].capabilities), Rights(), PARENT)
    assert bool(beyond) == (name == "root")


# --- a family ---------------------------------------------------------------------------------------------------------


class Family(RuleBasedStateMachine):
    """Spawns, exits, grants and revokes, by the rules of the kernel and without it."""

    agents = Bundle("agents")

    def __init__(self) -> None:
        super().__init__()
        self.rights: dict[int, Rights] = {}
        self.parent: dict[int, int] = {}
        self.next = 1

    @rule(target=agents, held=rights)
    def start(self, held):
        self.rights[self.next], self.parent[self.next] = held, 0
        self.next += 1
        return self.next - 1

    @rule(target=agents, above=agents, held=rights)
    def spawn(self, above, held):
        kept = narrow(held, self.rights[above], above) if above in self.rights else held
        self.rights[self.next], self.parent[self.next] = kept, above if above in self.rights else 0
        self.next += 1
        return self.next - 1

    @rule(pid=consumes(agents))
    def end(self, pid):
        gone = [pid, *self.below(pid)]
        for one in gone:
            self.rights.pop(one, None)
            self.parent.pop(one, None)

    @rule(
        pid=agents,
        text=st.sampled_from([*FLAGS, "ipc_scope=all", "tools=fs.*", "limits.messages=0", "sandbox=trusted"]),
    )
    def grant(self, pid, text):
        if pid not in self.rights:
            return
        try:
            wanted = add(self.rights[pid], [text])
        except InvalidRequest:
            return
        above = self.parent[pid]
        if not above or not lacking(wanted, self.rights[above], above):
            self.rights[pid] = wanted

    @rule(
        pid=agents, text=st.sampled_from([*FLAGS, "ipc_scope", "ipc_scope=topic:a", "tools=fs.*", "limits.messages=16"])
    )
    def revoke(self, pid, text):
        if pid not in self.rights:
            return
        try:
            self.rights[pid] = take(self.rights[pid], [text])
        except InvalidRequest:
            return
        for one in self.below(pid):
            above = self.parent[one]
            self.rights[one] = narrow(self.rights[one], self.rights[above], above)

    def below(self, pid):
        found = [one for one, above in self.parent.items() if above == pid]
        return [deep for one in found for deep in (one, *self.below(one))]

    @invariant()
    def no_child_holds_more_than_its_parent(self):
        for pid, above in self.parent.items():
            if above:
                assert lacking(self.rights[pid], self.rights[above], above) == []


Family.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestFamily = Family.TestCase
