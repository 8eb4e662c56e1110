"""Questions, rules and constitutions for tests of governance."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import strategies as st

from weftos.governance.constitution import Constitution, Genesis
from weftos.governance.effects import DIMENSIONS, EffectVector
from weftos.governance.environments import STANDARD
from weftos.governance.rules import Branch, Condition, Question, Rule, Severity

KEYS = {branch: Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n, branch in enumerate(Branch, 1)}
PUBLIC = {branch: key.public_key().public_bytes_raw() for branch, key in KEYS.items()}
CONSTITUTION = Constitution.begin(Genesis(keys=PUBLIC))
DEFAULT = CONSTITUTION.environment


def ask(effect, action="app.act", environment=DEFAULT, **more):
    return Question(
        agent_id=more.pop("agent_id", "7"),
        action=action,
        effect=effect,
        environment=environment.environment_class,
        threshold=environment.risk_threshold,
        **more,
    )


FIGURES = st.floats(0, 1)
EFFECTS = st.builds(EffectVector, *[FIGURES] * 5)
ENVIRONMENTS = st.sampled_from([DEFAULT, *STANDARD.values()])
ACTIONS = st.sampled_from(["ipc.send", "agent.spawn", "tool.fs.remove", "tool.exec", "deploy.web", "x"])
PATTERNS = st.sampled_from(["*", "ipc.*", "tool.fs.*", "agent.spawn", "?", "deploy.*", "*.s*"])
CONDITIONS = st.builds(
    Condition,
    actions=st.lists(PATTERNS, max_size=2).map(tuple),
    agents=st.lists(st.sampled_from(["7", "8", "*"]), max_size=1).map(tuple),
    environments=st.lists(st.sampled_from(["production", "staging", "custom"]), max_size=2).map(tuple),
    above=st.dictionaries(st.sampled_from(DIMENSIONS), FIGURES, max_size=2),
    magnitude_above=st.none() | st.floats(0, 2.3),
    above_threshold=st.booleans(),
)


def _made(number, branch, severity, outcome, when, active):
    if outcome in ("deny", "require_approval") and severity.rank < Severity.BLOCKING.rank:
        severity = Severity.BLOCKING
    return Rule(
        id=f"T-{number}",
        description="a rule",
        branch=branch,
        severity=severity,
        outcome=outcome,
        when=when,
        active=active,
    )


RULES = st.builds(
    _made,
    st.integers(0, 10**6),
    st.sampled_from(Branch),
    st.sampled_from(Severity),
    st.sampled_from(["note", "warn", "require_approval", "deny"]),
    CONDITIONS,
    st.booleans(),
)
RULE_LISTS = st.lists(RULES, max_size=8, unique_by=lambda rule: rule.id)
QUESTIONS = st.tuples(EFFECTS, ACTIONS, ENVIRONMENTS)
