"""What is in force: the constitution and the environment, as a sum over records; and the backend that decides by them.

Why it is as it is: both are state, so both stand on the log, and whoever has its records comes to the same rules. The
backend remembers what it decided for an action as long as neither changes, and only where nothing of the question but
the action can matter.

Guaranteed: an action without a registered effect counts as the worst there is; a claim can only make an effect worse.
The kernel itself, and the operator behind it, is not governed by rules: it is who changes them, on the log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from weftos.errors import InvalidRequest
from weftos.events.governance import EnvSwitch, GovernancePolicies
from weftos.governance.articles import EFFECTS
from weftos.governance.constitution import GENESIS_KIND, SUPERSEDE_KIND, Constitution, Genesis, Supersede
from weftos.governance.effects import DIMENSIONS, EffectVector, effect_of
from weftos.governance.engine import Decision, Engine
from weftos.governance.environments import STANDARD, Environment
from weftos.governance.gate import ACTIONS, KERNEL_ID, Defer, Deny, GateDecision, Permit, Subject, Why
from weftos.governance.rules import Question

__all__ = ["ENVIRONMENT_KIND", "POLICIES_KIND", "GovernanceGate", "Standing", "decision_of", "judge"]

ENVIRONMENT_KIND: Final = EnvSwitch.kind
POLICIES_KIND: Final = GovernancePolicies.kind
#: Name of the environment that holds where none is chosen.
_DEFAULT: Final = "default"
_BY_KERNEL: Final = Permit("kernel")


class Standing:
    """The sum.

    Attributes:
        constitution: in force; ``None`` before its beginning.
        chosen: the environment that was chosen last, or ``None``.
        custom: environments that were made here, by name.
        policies: hash of the text of another backend's policies, 32 bytes; empty if there are none.
        changes: how often anything changed; whoever remembers something compares it.
    """

    def __init__(self) -> None:
        self.constitution: Constitution | None = None
        self.chosen: Environment | None = None
        self.custom: dict[str, Environment] = {}
        self.policies = b""
        self.changes = 0
        self._hash = b""
        self._engine = Engine(())

    def take(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Add a record; other kinds change nothing.

        Raises:
            InvalidRequest: it is malformed, or the constitution begins twice, or changes before it began.
            GovernanceDenied: a change was not allowed.
        """
        if kind == GENESIS_KIND:
            if self.constitution is not None:
                raise InvalidRequest("the log has two constitutions; one must supersede the other, not begin again")
            self._set(Constitution.begin(Genesis.from_payload(payload)))
        elif kind == SUPERSEDE_KIND:
            self._set(self.after(Supersede.from_payload(payload)))
        elif kind == ENVIRONMENT_KIND:
            found = self.environment_from(payload.get("environment"))
            # What the constitution says where nothing is chosen changes with it.
            self.chosen = None if found.name == _DEFAULT else found
            if found.name not in STANDARD and found.name != _DEFAULT:
                self.custom[found.name] = found
            self.changes += 1
        elif kind == POLICIES_KIND:
            self.policies = payload.get("hash") or b""
            self.changes += 1

    def after(self, change: Supersede) -> Constitution:
        """Return the constitution that a change would make; errors as for ``Constitution.superseded_by``."""
        if self.constitution is None:
            raise InvalidRequest("a change of the constitution comes before its beginning")
        return self.constitution.superseded_by(change)

    def _set(self, constitution: Constitution) -> None:
        self.constitution = constitution
        self._hash = constitution.hash
        self._engine = constitution.engine()
        self.changes += 1

    @property
    def hash(self) -> bytes:
        """Hash of the constitution, 32 bytes; empty before its beginning."""
        return self._hash

    @property
    def engine(self) -> Engine:
        """Evaluates the rules in force."""
        return self._engine

    @property
    def environment(self) -> Environment:
        """The environment in force.

        Raises:
            InvalidRequest: nothing is in force yet.
        """
        if self.chosen is not None:
            return self.chosen
        if self.constitution is None:
            raise InvalidRequest("no constitution is in force")
        return self.constitution.environment

    def environments(self) -> dict[str, Environment]:
        """Return all environments that are known, by name."""
        default = {} if self.constitution is None else {_DEFAULT: self.constitution.environment}
        return default | STANDARD | self.custom

    @staticmethod
    def environment_from(values: object) -> Environment:
        """Read an environment from plain values.

        Raises:
            InvalidRequest: it is malformed, or takes the name of a standard one for something else.
        """
        try:
            found = msgspec.convert(values, Environment)
        except (msgspec.ValidationError, TypeError, RecursionError) as error:
            raise InvalidRequest(f"the environment is malformed: {error}") from error
        if found.name in STANDARD and found != STANDARD[found.name]:
            raise InvalidRequest(f"{found.name} is a standard environment; give yours another name")
        return found


def judge(
    engine: Engine, environment: Environment, agent_id: str, action: str, context: Mapping[str, Any]
) -> tuple[Decision, str]:
    """Evaluate rules for a question to the gate.

    Args:
        engine: with the rules.
        environment: where it is to happen.
        agent_id: of the agent, as rules call it.
        action: to be decided.
        context: facts; ``effect`` in it is what the caller says about the effect.

    Returns:
        The decision, and why its effect is what it is.
    """
    effect, source = effect_of(EFFECTS.get(action), context.get("effect"))
    known = ACTIONS.get(action)
    question = Question(
        agent_id=agent_id,
        action=action,
        effect=effect,
        environment=environment.environment_class,
        threshold=environment.risk_threshold,
        facts=_facts(context),
        person=known is not None and known.person,
    )
    return engine.evaluate(question, environment), source


def decision_of(decision: Decision, environment: Environment, constitution: bytes, source: str) -> GateDecision:
    """Turn a verdict of the rules into an answer of the gate that explains itself."""
    why = Why(
        verdict=decision.verdict,
        rule=decision.deciding_rule,
        matched=decision.matched,
        magnitude=decision.magnitude,
        threshold=decision.threshold,
        environment=decision.environment,
        constitution=constitution,
        effect=_figures(decision.effect),
        effect_source=source,
        detailed=environment.audit_level == "per_action_with_effects",
    )
    if decision.verdict == "deny":
        return Deny(decision.reason, why)
    if decision.verdict == "escalate_to_human":
        return Defer(decision.reason, why)
    return Permit(decision.reason, why)


class GovernanceGate:
    """Decides by the rules in force.

    Args:
        standing: what is in force; may change at any time.
        lookup: gives the subject for an agent id, or ``None``; rules speak of agents by their ``agent_id``.
    """

    def __init__(self, standing: Standing, lookup: Callable[[str], Subject | None]) -> None:
        self._standing = standing
        self._lookup = lookup
        self._known: dict[str, GateDecision] = {}
        self._changes = -1

    def check(self, agent_id: str, action: str, context: Mapping[str, Any]) -> GateDecision:
        """Decide one action; see ``GateBackend.check``."""
        if agent_id == KERNEL_ID:
            return _BY_KERNEL
        standing = self._standing
        if self._changes != standing.changes:
            self._known.clear()
            self._changes = standing.changes
        plain = "effect" not in context
        if plain and (known := self._known.get(action)) is not None:
            return known
        if action not in ACTIONS:
            return Deny(f"action {action!r} is not in the gate's table")
        if standing.constitution is None:
            return Deny("no constitution is in force")
        environment = standing.environment
        subject = self._lookup(agent_id)
        name = subject.agent_id if subject is not None else agent_id
        found, source = judge(standing.engine, environment, name, action, context)
        decision = decision_of(found, environment, standing.hash, source)
        if plain and standing.engine.depends_on_action_alone(action, environment):
            self._known[action] = decision
        return decision


def _figures(effect: EffectVector) -> dict[str, float]:
    return {name: value for name in DIMENSIONS if (value := getattr(effect, name))}


def _facts(context: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for name, value in context.items():
        if type(value) is str:
            found[name] = value
        elif type(value) is bool:
            found[name] = "true" if value else "false"
        elif type(value) in (int, float):
            found[name] = str(value)
    return found
