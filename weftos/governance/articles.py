"""The rules that a new instance proposes to itself, and the effects that actions have.

They are data: once an instance has begun they stand on its log and are changed there, by those whose they are, see
``constitution``. Nothing here is looked at again then, except to tell that it differs.

Names of rules, branches, severities and categories, and the figures of effects, are those of the WeftOS reference; the
conditions are this project's.
"""

from __future__ import annotations

from typing import Final

from weftos.governance.effects import EffectVector as Effect
from weftos.governance.rules import Branch, Condition, Outcome, Rule, Severity

__all__ = ["ARTICLES", "EFFECTS", "THRESHOLD"]

#: Magnitude above which an effect is large, where no environment says otherwise.
THRESHOLD: Final = 0.7

_L, _E, _J = Branch.LEGISLATIVE, Branch.EXECUTIVE, Branch.JUDICIAL
_BLOCK, _WARN, _NOTE = Severity.BLOCKING, Severity.WARNING, Severity.ADVISORY
_OUTCOMES: Final[dict[Severity, Outcome]] = {_BLOCK: "deny", _WARN: "warn", _NOTE: "note"}


def _rule(name: str, branch: Branch, severity: Severity, category: str | None, about: str, when: Condition) -> Rule:
    return Rule(
        id=name,
        description=about,
        branch=branch,
        severity=severity,
        outcome=_OUTCOMES[severity],
        when=when,
        sop_category=category,
    )


#: The 22 rules of a new instance.
ARTICLES: Final[tuple[Rule, ...]] = (
    _rule("GOV-001", _J, _BLOCK, None, "effects above the threshold need elevated review",
          Condition(above_threshold=True)),
    _rule("GOV-002", _J, _BLOCK, None, "what weakens protection stays below the security limit",
          Condition(above={"security": 0.8})),
    _rule("GOV-003", _L, _WARN, None, "what touches privacy is flagged", Condition(above={"privacy": 0.3})),
    _rule("GOV-004", _E, _NOTE, None, "what has no precedent is noted", Condition(above={"novelty": 0.3})),
    _rule("GOV-005", _L, _WARN, None, "writes to files are flagged",
          Condition(actions=("tool.fs.write*", "tool.fs.remove", "tool.fs.move", "tool.fs.copy", "tool.fs.create*"))),
    _rule("GOV-006", _E, _BLOCK, None, "a spawn beyond the security limit needs clearance",
          Condition(actions=("agent.spawn",), above={"security": 0.5, "risk": 0.7})),
    _rule("GOV-007", _J, _NOTE, None, "messages between agents are audited", Condition(actions=("ipc.*",))),
    _rule("SOP-L001", _L, _BLOCK, "governance", "deployments of high impact need the ethics board's approval",
          Condition(actions=("deploy.*", "app.install"), above={"risk": 0.6, "fairness": 0.5})),
    _rule("SOP-L002", _L, _WARN, "governance", "changes of sources go through version control",
          Condition(actions=("tool.vcs.*", "tool.fs.write*"), facts={"unversioned": "true"})),
    _rule("SOP-L003", _L, _WARN, "engineering", "requirements are reviewed for their ethics",
          Condition(above={"fairness": 0.3})),
    _rule("SOP-L004", _L, _NOTE, "lifecycle", "releases are planned and gated", Condition(actions=("release.*",))),
    _rule("SOP-L005", _L, _BLOCK, "ethics", "personal data is protected", Condition(above={"privacy": 0.7})),
    _rule("SOP-L006", _L, _WARN, "governance", "risks are registered", Condition(above={"risk": 0.6})),
    _rule("SOP-E001", _E, _WARN, "engineering", "code that is run has been checked",
          Condition(actions=("tool.shell.*", "tool.exec", "wasm.*"))),
    _rule("SOP-E002", _E, _BLOCK, "lifecycle", "deployments to production need clearance",
          Condition(actions=("deploy.*",), environments=("production",))),
    _rule("SOP-E003", _E, _WARN, "security", "what touches security is ready for an incident",
          Condition(above={"security": 0.5})),
    _rule("SOP-E004", _E, _NOTE, "lifecycle", "what is taken out of service is taken out in order",
          Condition(actions=("*.remove", "*.delete", "*.clear"))),
    _rule("SOP-E005", _E, _NOTE, "governance", "what comes from third parties is screened",
          Condition(actions=("app.install", "net.connect"))),
    _rule("SOP-J001", _J, _BLOCK, "ethics", "what treats people unequally is assessed first",
          Condition(above={"fairness": 0.7})),
    _rule("SOP-J002", _J, _WARN, "ethics", "decisions about people can be explained",
          Condition(above={"fairness": 0.5})),
    _rule("SOP-J003", _J, _WARN, "lifecycle", "what changes over time is watched", Condition(above={"novelty": 0.6})),
    _rule("SOP-J004", _J, _NOTE, "quality", "records of quality are kept",
          Condition(actions=("release.*", "deploy.*"))),
)  # fmt: skip

#: Effects of the actions that are known. What is missing here is the worst there is.
EFFECTS: Final[dict[str, Effect]] = {
    # files
    "tool.fs.read_file": Effect(0.1), "tool.fs.read_dir": Effect(0.1), "tool.fs.glob": Effect(0.1),
    "tool.fs.stat": Effect(0.05), "tool.fs.exists": Effect(0.05), "tool.fs.create_dir": Effect(0.3),
    "tool.fs.copy": Effect(0.3), "tool.fs.write_file": Effect(0.4), "tool.fs.move": Effect(0.5),
    "tool.fs.remove": Effect(0.7, security=0.3),
    # agents and messages
    "agent.spawn": Effect(0.5), "agent.stop": Effect(0.4), "agent.suspend": Effect(0.3), "agent.resume": Effect(0.2),
    "agent.send": Effect(0.2), "agent.inspect": Effect(0.1), "agent.list": Effect(0.05),
    "ipc.send": Effect(0.2), "ipc.publish": Effect(0.2), "ipc.broadcast": Effect(0.2), "ipc.subscribe": Effect(0.1),
    "service.register": Effect(0.2),
    # artifacts
    "artifact.put": Effect(0.2), "artifact.get": Effect(0.1), "artifact.release": Effect(0.1),
    # the system
    "tool.sys.read": Effect(0.1), "tool.env.get": Effect(0.2, privacy=0.3), "tool.exec": Effect(0.7, security=0.4),
    "tool.shell.exec": Effect(0.7, security=0.4), "tool.shell.pipeline": Effect(0.6, security=0.3),
    "wasm.execute": Effect(0.4, security=0.5), "net.connect": Effect(0.4, security=0.3),
    "cron.add": Effect(0.2, security=0.1), "cron.remove": Effect(0.2, security=0.1),
    "app.install": Effect(0.3, security=0.3), "app.remove": Effect(0.4, security=0.2),
    "peer.add": Effect(0.4, security=0.3), "peer.remove": Effect(0.3, security=0.2),
    "env.switch": Effect(0.3, security=0.2), "capability.elevate": Effect(0.5, security=0.5),
    "profile.create": Effect(0.3, privacy=0.2), "profile.delete": Effect(0.7, privacy=0.4),
    # memory
    "causal.clear": Effect(0.8), "hnsw.clear": Effect(0.8),
    "ecc.search": Effect(0.05), "ecc.embed": Effect(0.1), "ecc.forget": Effect(0.3),
    "ecc.collection.create": Effect(0.2), "ecc.collection.drop": Effect(0.6),
    "ecc.causal.query": Effect(0.05), "ecc.causal.link": Effect(0.3), "ecc.causal.unlink": Effect(0.4),
    "ecc.crossref.query": Effect(0.05), "ecc.crossref.create": Effect(0.2), "ecc.impulse.emit": Effect(0.1),
    "config.set": Effect(0.3, security=0.2), "config.secret.set": Effect(0.3, privacy=0.3, security=0.4),
    "auth.register": Effect(0.3, privacy=0.2, security=0.4),
    "auth.credential.use": Effect(0.2, privacy=0.2, security=0.3), "kernel.shutdown": Effect(0.5),
}  # fmt: skip
