"""The table of methods: complete, well named, and every type in it can be written and read."""

from __future__ import annotations

import inspect
import re

import msgspec
import pytest

from weftos.rpc import (
    access_types,
    agent_types,
    artifact_types,
    auth_types,
    config_types,
    state_types,
    stream_types,
    tree_types,
    types,
)
from weftos.rpc.methods import METHODS, Access

EXPECTED = {
    "ping", "kernel.status", "kernel.ps", "kernel.services", "kernel.logs", "kernel.health", "kernel.shutdown",
    "kernel.kill-process", "kernel.restart-service", "agent.spawn", "agent.stop", "agent.restart", "agent.suspend",
    "agent.resume", "agent.list", "agent.inspect", "agent.send", "agent.logs", "chain.status", "chain.local",
    "chain.checkpoint", "chain.rotate-key", "chain.redact", "ipc.topics", "ipc.publish", "ipc.subscribe",
    "ipc.dead-letters", "ipc.prove", "custody.attest", "resource.tree", "resource.inspect", "resource.stats",
    "resource.score", "resource.rank", "kernel.state", "resource.acl", "resource.decide", "resource.set-rule",
    "resource.remove-rule", "resource.delegate", "resource.delegations", "resource.authorize", "resource.revoke",
    "resource.restore", "chain.bridge-add", "chain.bridge-list", "chain.tail-from",
    "artifact.put", "artifact.get", "artifact.list", "artifact.stat", "artifact.release", "artifact.gc",
    "chain.archive", "chain.prune", "chain.retention", "capability.show", "capability.grant", "capability.revoke",
    "capability.elevate", "budget.show", "budget.set",
    "gate.check", "gate.pending", "gate.approve", "gate.deny",
    "governance.show", "governance.rules", "governance.simulate", "governance.supersede", "env.list", "env.switch",
    "auth.challenge", "auth.login", "auth.whoami", "auth.token-issue", "auth.token-list", "auth.token-revoke",
    "auth.vault-key", "auth.credential-add", "auth.credential-list", "auth.credential-rotate",
    "auth.credential-remove", "config.get", "config.list", "config.set",
    "ecc.status", "ecc.collections", "ecc.search", "ecc.entries", "ecc.put", "ecc.drop", "ecc.causal", "ecc.crossrefs",
    "ecc.coherence", "ecc.calibrate", "ecc.tick", "ecc.compact",
}  # fmt: skip


def test_no_method_disappears_or_appears_by_accident():
    assert set(METHODS) == EXPECTED


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_each_row_is_well_formed(method):
    assert METHODS[method.name] is method
    assert re.fullmatch(r"[a-z]+(\.[a-z]+(-[a-z]+)*)?", method.name)
    assert method.about.endswith(".")
    config = method.params.__struct_config__
    assert config.forbid_unknown_fields, "a misspelt parameter must be an error"
    assert config.frozen
    assert not config.array_like
    msgspec.json.schema(method.params)
    msgspec.json.schema(method.result)


def test_what_changes_something_is_not_for_readers():
    readers = {name for name, method in METHODS.items() if method.access is Access.READ}
    changing = (
        "spawn",
        "stop",
        "restart",
        "suspend",
        "resume",
        "send",
        "publish",
        "subscribe",
        "shutdown",
        "kill",
        "service",
    )
    assert not [name for name in readers if any(word == part for part in re.split(r"[.-]", name) for word in changing)]


@pytest.mark.parametrize(
    "module",
    [access_types, agent_types, artifact_types, auth_types, config_types, state_types, stream_types, tree_types, types],
)
def test_every_type_has_snake_case_keys_and_documents_each(module):
    for name in module.__all__:
        kind = getattr(module, name)
        if not (inspect.isclass(kind) and issubclass(kind, msgspec.Struct)):
            continue
        assert kind.__doc__
        for key in kind.__struct_fields__:
            assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", key), f"{name}.{key}"
        if "Attributes:" in kind.__doc__:
            documented = set(re.findall(r"^\s+([a-z_0-9]+): ", kind.__doc__, re.MULTILINE))
            bases = {
                "AgentDetail": agent_types.ProcessInfo,
                "ResourceDetail": tree_types.ResourceNode,
                "ArtifactStat": artifact_types.ArtifactRow,
                "ArtifactContent": artifact_types.ArtifactRow,
            }
            inherited = set(bases[name].__struct_fields__) if name in bases else set()
            assert set(kind.__struct_fields__) <= documented | inherited, name
            assert documented <= set(kind.__struct_fields__), name
