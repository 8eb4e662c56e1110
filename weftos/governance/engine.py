"""From rules, an environment and a question to a decision that explains itself.

Why it is as it is: whoever asks why something was denied must get the rule and the figures, not a shrug. So a decision
names what matched and what decided. The strictest outcome of all that match counts, whatever their order: a rule can
only ever take away.

Guaranteed: the same rules, environment and question give the same decision; adding a rule never makes it milder. An
effect beyond the environment's largest magnitude is denied whatever the rules say.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

import msgspec

from weftos.governance.effects import EffectVector
from weftos.governance.environments import Environment
from weftos.governance.rules import Outcome, Question, Rule, Severity, sorted_rules

__all__ = ["Decision", "Engine", "Verdict"]

#: From the mildest to the strictest; names as they are known from elsewhere.
Verdict: TypeAlias = Literal["permit", "permit_with_warning", "escalate_to_human", "deny"]

#: Actions for which the rules that can apply are remembered; forgotten all at once.
_KEPT: Final = 4096
_VERDICTS: Final[dict[Outcome, Verdict]] = {
    "note": "permit",
    "warn": "permit_with_warning",
    "require_approval": "escalate_to_human",
    "deny": "deny",
}
_STRICTNESS: Final[dict[Verdict, int]] = {
    "permit": 0,
    "permit_with_warning": 1,
    "escalate_to_human": 2,
    "deny": 3,
}


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided, and why.

    Attributes:
        verdict: see ``Verdict``.
        reason: one sentence.
        deciding_rule: id of the rule that decided; empty if none did.
        matched: ids of the rules that applied, in the order of evaluation.
        evaluated: ids of all rules that were looked at, in that order.
        effect: that was judged.
        magnitude: of it.
        threshold: of the environment.
        threshold_exceeded: whether the magnitude is more than that; exactly at it is not more.
        environment: name of it.
    """

    verdict: Verdict
    reason: str
    deciding_rule: str
    matched: tuple[str, ...]
    evaluated: tuple[str, ...]
    effect: EffectVector
    magnitude: float
    threshold: float
    threshold_exceeded: bool
    environment: str


class Engine:
    """Evaluates questions.

    Args:
        rules: in any order; ids are unique.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = sorted_rules(tuple(rules))
        #: For an action in an environment: ids of the rules that count, and those that can apply.
        self._known: dict[tuple[str, Environment], tuple[tuple[str, ...], tuple[Rule, ...]]] = {}
        assert len({rule.id for rule in self.rules}) == len(self.rules), "ids are unique"

    def evaluate(self, question: Question, environment: Environment) -> Decision:
        """Decide.

        Args:
            question: its environment and threshold are those of ``environment``.
            environment: where it is to happen.
        """
        looked_at, candidates = self._about(question.action, environment)
        magnitude = question.effect.magnitude
        matched = [rule for rule in candidates if rule.when.holds(question, magnitude)]
        verdict: Verdict = "permit"
        deciding: Rule | None = None
        for rule in matched:
            said = _verdict_of(rule, by_a_person=environment.human_approval_required or question.person)
            # Of equal verdicts the weightiest rule speaks, which comes first.
            if _STRICTNESS[said] > _STRICTNESS[verdict]:
                verdict, deciding = said, rule
        reason = f"rule {deciding.id}: {deciding.description}" if deciding else "no rule objects"
        if magnitude > environment.max_effect_magnitude:
            verdict, deciding = "deny", None
            reason = (
                f"the effect has magnitude {magnitude:.3g}; in {environment.name} nothing above "
                f"{environment.max_effect_magnitude:g} is allowed"
            )
        return Decision(
            verdict=verdict,
            reason=reason,
            deciding_rule=deciding.id if deciding else "",
            matched=tuple(rule.id for rule in matched),
            evaluated=looked_at,
            effect=question.effect,
            magnitude=magnitude,
            threshold=environment.risk_threshold,
            threshold_exceeded=magnitude > environment.risk_threshold,
            environment=environment.name,
        )

    def depends_on_action_alone(self, action: str, environment: Environment) -> bool:
        """Whether no rule that can apply looks at the agent or at facts, so that equal effects get equal answers."""
        conditions = [rule.when for rule in self._about(action, environment)[1]]
        return not any(when.agents or when.roles or when.facts for when in conditions)

    def _about(self, action: str, environment: Environment) -> tuple[tuple[str, ...], tuple[Rule, ...]]:
        key = action, environment
        found = self._known.get(key)
        if found is None:
            counting = [rule for rule in self.rules if rule.active and rule.branch in environment.active_branches]
            fitting = (rule for rule in counting if rule.when.is_about(action, environment.environment_class))
            found = tuple(rule.id for rule in counting), tuple(fitting)
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[key] = found
        return found


def _verdict_of(rule: Rule, *, by_a_person: bool) -> Verdict:
    """A person may still allow what a blocking rule denies, where the environment or the action says so; never what a
    critical one does.
    """
    if rule.outcome == "deny" and rule.severity is not Severity.CRITICAL and by_a_person:
        return "escalate_to_human"
    return _VERDICTS[rule.outcome]
