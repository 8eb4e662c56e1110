"""The one table of the control socket: every method with its access class, its parameters, its result.

The kernel serves exactly these names and refuses every other; the client, ``weaver`` and ``docs/rpc.md`` are built from
or checked against this table, so the two ends cannot drift apart. It guarantees that a handler sees parameters of the
declared type. It does not say who may call: the kernel checks the peer's credentials and the access class.
"""

from __future__ import annotations

import enum
from typing import Any, Final

import msgspec

from weftos.rpc import access_types as x
from weftos.rpc import agent_types as a
from weftos.rpc import artifact_types as f
from weftos.rpc import auth_types as u
from weftos.rpc import budget_types as b
from weftos.rpc import capability_types as c
from weftos.rpc import chain_types as ct
from weftos.rpc import config_types as k
from weftos.rpc import ecc_types as e
from weftos.rpc import governance_types as g
from weftos.rpc import kernel_types as kt
from weftos.rpc import message_types as mt
from weftos.rpc import retention_types as n
from weftos.rpc import stream_types as s
from weftos.rpc import tree_types as r
from weftos.rpc import types as t
from weftos.rpc.state_types import KernelHeld

__all__ = ["METHODS", "Access", "Method"]


class Access(enum.StrEnum):
    """What a method may change: nothing; agents and messages; the kernel itself. ``OPEN`` is for all who may connect:
    they show who they are, and nothing is shown to them.
    """

    OPEN = "open"
    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"


class Method(msgspec.Struct, frozen=True):
    """One row of the table.

    Attributes:
        name: on the wire.
        access: class of the method.
        params: struct of its parameters.
        result: type of its result, as ``msgspec.convert`` takes it.
        about: one sentence for the documentation.
        streaming: whether further lines follow the answer. No method does so now: followers ask again with a serial or
            an offset.
    """

    name: str
    access: Access
    params: type[msgspec.Struct]
    result: Any
    about: str
    streaming: bool = False


_OPEN, _READ, _OPERATE, _ADMIN = Access.OPEN, Access.READ, Access.OPERATE, Access.ADMIN

_TABLE: Final = (
    Method("ping", _READ, t.NoParams, str, "Answers `pong`: the kernel's loop turns."),
    Method("kernel.status", _READ, t.NoParams, kt.KernelStatus, "State, age and places of the kernel."),
    Method("kernel.state", _READ, t.NoParams, KernelHeld, "What the kernel holds, as of a record of the log."),
    Method("kernel.ps", _READ, a.ListParams, list[a.ProcessInfo], "The process table."),
    Method("kernel.services", _READ, t.NoParams, list[kt.ServiceInfo], "Services, the service process first."),
    Method("kernel.logs", _READ, kt.LogsParams, list[kt.LogEntry], "Lines of the kernel's log, oldest first."),
    Method(
        "kernel.health",
        _READ,
        t.NoParams,
        kt.HealthReport,
        "Health of the services and what is not enforced on this machine.",
    ),
    Method(
        "kernel.shutdown",
        _ADMIN,
        t.NoParams,
        kt.ShutdownResult,
        "Begin the shutdown: agents first, then the service process.",
    ),
    Method(
        "kernel.kill-process", _ADMIN, kt.KillParams, kt.KillResult, "Signal an agent to end, without waiting for it."
    ),
    Method(
        "kernel.restart-service",
        _ADMIN,
        kt.NameParams,
        kt.RestartServiceResult,
        "Replace the process behind a service.",
    ),
    Method("agent.spawn", _OPERATE, a.SpawnParams, a.SpawnResult, "Start an agent; answers when it is ready."),
    Method("agent.stop", _OPERATE, a.StopParams, a.StopResult, "Stop an agent for good; answers when it has ended."),
    Method(
        "agent.restart", _OPERATE, a.PidParams, a.SpawnResult, "Give an agent a new incarnation under the same pid."
    ),
    Method("agent.suspend", _OPERATE, a.PidParams, a.StateResult, "Hold all processes of an agent."),
    Method("agent.resume", _OPERATE, a.PidParams, a.StateResult, "Let a suspended agent go on."),
    Method("agent.list", _READ, a.ListParams, list[a.ProcessInfo], "The agents, in order of pid."),
    Method(
        "agent.inspect", _READ, a.PidParams, a.AgentDetail, "Everything about one agent: use, limits, rings, rights."
    ),
    Method("agent.send", _OPERATE, a.SendParams, a.SendResult, "Send an agent a message and wait for its reply."),
    Method("agent.logs", _READ, a.LogParams, a.AgentLog, "What an agent wrote to its output and its log."),
    Method("chain.status", _READ, t.NoParams, ct.ChainStatus, "State of the tamper-evident log."),
    Method("chain.local", _READ, t.CountParams, list[ct.ChainRow], "The newest records of the log, oldest first."),
    Method("chain.checkpoint", _OPERATE, t.NoParams, ct.CheckpointResult, "Sign how far the log has come, now."),
    Method("chain.rotate-key", _ADMIN, t.NoParams, ct.RotateResult, "Hand the log over to a new pair of keys."),
    Method("chain.redact", _ADMIN, ct.RedactParams, ct.RedactResult, "Take the payload of a record away for good."),
    Method(
        "chain.bridge-add", _OPERATE, ct.BridgeParams, ct.BridgeHead, "Note a signed head of a foreign log on this one."
    ),
    Method("chain.bridge-list", _READ, t.NoParams, list[ct.BridgeHead], "The newest head of each foreign log."),
    Method(
        "chain.tail-from", _READ, ct.PageParams, ct.PageResult, "Raw records from a number on, for a copy of the log."
    ),
    Method("chain.archive", _ADMIN, n.ArchiveParams, n.SegmentPlan, "Copy the closed segments to the archive."),
    Method("chain.prune", _ADMIN, n.PruneParams, n.SegmentPlan, "Take the oldest segments out of the log's folder."),
    Method("chain.retention", _READ, t.NoParams, n.RetentionStatus, "What the service archives and prunes."),
    Method("custody.attest", _OPERATE, t.NoParams, ct.AttestResult, "Sign what this instance holds, for others."),
    Method("resource.tree", _READ, r.ResourcePathParams, r.ResourceTree, "A resource and everything below it."),
    Method("resource.inspect", _READ, r.ResourcePathParams, r.ResourceDetail, "One resource, and the rules on it."),
    Method("resource.stats", _READ, t.NoParams, r.ResourceStats, "Counts over the resource tree, and its root hash."),
    Method("resource.score", _READ, r.ResourcePathParams, r.ResourceScore, "The figures of a resource, and its likes."),
    Method("resource.rank", _READ, r.ResourceRankParams, r.ResourceRank, "The resources with the best figures."),
    Method("resource.acl", _READ, x.AclParams, x.AclView, "The rules that count for a resource."),
    Method("resource.decide", _READ, x.AclDecisionParams, x.AclDecision, "What the rules say to a question, and why."),
    Method("resource.set-rule", _ADMIN, x.AclSetParams, x.TreeChanged, "Puts a rule on a resource."),
    Method("resource.remove-rule", _ADMIN, x.AclRemoveParams, x.TreeChanged, "Takes a rule from a resource."),
    Method("resource.delegate", _ADMIN, x.DelegateParams, x.DelegateResult, "Signs a certificate."),
    Method("resource.delegations", _READ, t.NoParams, x.CertificateList, "What was delegated, and what is revoked."),
    Method("resource.authorize", _READ, x.AuthorizeParams, x.GrantView, "What a chain of certificates gives now."),
    Method("resource.revoke", _ADMIN, x.CertificateParams, x.TreeChanged, "Revokes a certificate."),
    Method("resource.restore", _ADMIN, x.CertificateParams, x.TreeChanged, "Takes a revocation back."),
    Method("gate.check", _READ, g.GateCheckParams, g.GateVerdict, "What the gate says to an action, and why."),
    Method("gate.pending", _READ, g.GatePendingParams, g.GateRequestList, "What waits for a person's approval."),
    Method("gate.approve", _ADMIN, g.ApproveParams, g.GateRequestView, "Approves a request, once."),
    Method("gate.deny", _ADMIN, g.RefuseParams, g.GateRequestView, "Refuses a request."),
    Method("governance.show", _READ, t.NoParams, g.ConstitutionView, "The constitution in force."),
    Method("governance.rules", _READ, g.RulesParams, g.GovernanceRuleList, "The rules in force."),
    Method("governance.simulate", _READ, g.SimulateParams, g.SimulationView, "What would be decided otherwise."),
    Method("governance.supersede", _ADMIN, g.SupersedeParams, g.SupersedeResult, "Changes the rules."),
    Method("env.list", _READ, t.NoParams, g.EnvironmentList, "The environments, and which is in force."),
    Method("env.switch", _ADMIN, g.SwitchParams, g.SwitchResult, "Chooses an environment."),
    Method("artifact.put", _OPERATE, f.ArtifactPutParams, f.ArtifactPutResult, "Store content, and say so on the log."),
    Method("artifact.get", _READ, f.ArtifactHashParams, f.ArtifactContent, "The content of a small artifact."),
    Method("artifact.list", _READ, f.ArtifactListParams, f.ArtifactList, "The artifacts, ordered by hash."),
    Method("artifact.stat", _READ, f.ArtifactStatParams, f.ArtifactStat, "What the store says about an artifact."),
    Method(
        "artifact.release",
        _OPERATE,
        f.ArtifactHashParams,
        f.ArtifactReleased,
        "Nobody who put the artifact needs it any more.",
    ),
    Method(
        "artifact.gc", _ADMIN, f.ArtifactGcParams, f.ArtifactGcResult, "Remove artifacts that nothing holds any more."
    ),
    Method("budget.show", _READ, b.BudgetShowParams, b.BudgetView, "What an agent may still use, and by whose rule."),
    Method("budget.set", _ADMIN, b.BudgetSetParams, b.BudgetSetResult, "Give an agent and all below it a budget."),
    Method("capability.show", _READ, a.PidParams, c.CapabilityView, "What an agent may do, and who said so."),
    Method(
        "capability.grant",
        _ADMIN,
        c.CapabilityChangeParams,
        c.CapabilityChanged,
        "Give an agent rights back that it was started with.",
    ),
    Method(
        "capability.revoke",
        _ADMIN,
        c.CapabilityChangeParams,
        c.CapabilityChanged,
        "Take rights from an agent and from all below it; what is open closes.",
    ),
    Method(
        "capability.elevate",
        _ADMIN,
        c.CapabilityChangeParams,
        c.CapabilityChanged,
        "Give an agent rights that it was not started with, approved by whoever asks.",
    ),
    Method("ecc.status", _READ, t.NoParams, e.EccStatus, "State of memory: collections, graphs, ticks."),
    Method("ecc.collections", _READ, t.NoParams, list[e.SpaceView], "The memory spaces, and what is in them."),
    Method("ecc.search", _READ, e.EccSearchParams, e.EccSearchResult, "What in a space is nearest to a vector."),
    Method("ecc.entries", _READ, e.EccEntriesParams, e.EccPage, "Entries of a space, in the order of writing."),
    Method("ecc.put", _OPERATE, e.EccPutParams, e.EccPutResult, "Write entries into a space."),
    Method("ecc.drop", _ADMIN, e.EccSpaceParams, e.EccPutResult, "Remove the collection of a space."),
    Method("ecc.causal", _READ, e.EccCausalParams, e.CausalView, "What leads to what in a space."),
    Method("ecc.crossrefs", _READ, e.EccCrossRefsParams, e.CrossRefsView, "Cross-references from and to a node."),
    Method("ecc.coherence", _READ, e.EccSpaceParams, e.CoherenceView, "How the graph of a space hangs together."),
    Method("ecc.calibrate", _OPERATE, e.EccCalibrateParams, e.CalibrationView, "Measures what this machine can do."),
    Method("ecc.tick", _OPERATE, t.NoParams, e.EccTickResult, "Put on the log what changed in memory, now."),
    Method("ecc.compact", _OPERATE, e.EccCompactParams, e.EccCompactResult, "Bring spaces into one segment each."),
    Method("ipc.topics", _READ, t.NoParams, list[mt.TopicInfo], "Topics with a subscriber or a publisher."),
    Method(
        "ipc.publish", _OPERATE, mt.PublishParams, mt.PublishResult, "Send a message to all subscribers of a topic."
    ),
    Method("ipc.subscribe", _OPERATE, mt.SubscribeParams, mt.SubscribeResult, "Subscribe an agent to a topic."),
    Method(
        "ipc.dead-letters",
        _READ,
        t.CountParams,
        list[mt.DeadLetterInfo],
        "Messages that nobody will handle, oldest first.",
    ),
    Method("auth.challenge", _OPEN, t.NoParams, u.ChallengeResult, "What a login has to sign."),
    Method("auth.login", _OPEN, u.LoginParams, u.WhoAmI, "Use a token on this connection from here on."),
    Method("auth.whoami", _OPEN, t.NoParams, u.WhoAmI, "Who asks, as the kernel sees it."),
    Method("auth.token-issue", _ADMIN, u.TokenIssueParams, u.TokenInfo, "Let a token count."),
    Method("auth.token-list", _READ, t.NoParams, list[u.TokenInfo], "The tokens that count."),
    Method("auth.token-revoke", _ADMIN, u.TokenRevokeParams, u.TokenInfo, "Let a token count no more."),
    Method("auth.vault-key", _ADMIN, t.NoParams, u.VaultKey, "To which key secrets for the vault are sealed."),
    Method("auth.credential-add", _ADMIN, u.CredentialAddParams, u.CredentialChanged, "Keep a credential, encrypted."),
    Method("auth.credential-list", _READ, t.NoParams, list[u.CredentialInfo], "The credentials, without secrets."),
    Method(
        "auth.credential-rotate",
        _ADMIN,
        u.CredentialRotateParams,
        u.CredentialChanged,
        "Give a credential another secret.",
    ),
    Method("auth.credential-remove", _ADMIN, u.CredentialRemoveParams, u.CredentialChanged, "Destroy a credential."),
    Method("config.get", _READ, k.ConfigKeyParams, k.SettingInfo, "One setting."),
    Method("config.list", _READ, t.NoParams, list[k.SettingInfo], "All settings."),
    Method("config.set", _ADMIN, k.ConfigSetParams, k.ConfigChanged, "Change a setting, in the file and in force."),
    Method("ipc.prove", _OPERATE, s.ProveParams, s.MessageLeaf, "Ask an agent in which window a message lies."),
)

#: Every method by name.
METHODS: Final[dict[str, Method]] = {method.name: method for method in _TABLE}
assert len(METHODS) == len(_TABLE), "a method is listed twice"
