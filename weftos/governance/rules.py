"""Rules as data: whom and what they are about, when they apply, and what then follows.

Why it is as it is: a rule whose condition is a sentence decides nothing. Here the condition is a handful of fields that
are compared, so that a rule can be stored on the log, hashed, explained, and evaluated the same way everywhere. All
that a condition names must hold; what it does not name holds always.

Guaranteed: whether a rule applies depends on the question and the rule alone. Patterns know ``*`` and ``?`` only.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from math import isfinite
from typing import Any, Final, Literal, TypeAlias

import msgspec

from weftos.errors import InvalidRequest
from weftos.governance.effects import DIMENSIONS, EffectVector

__all__ = ["Branch", "Condition", "Outcome", "Question", "Rule", "Severity", "sorted_rules"]


class Branch(enum.StrEnum):
    """Who may change a rule."""

    LEGISLATIVE = "legislative"
    EXECUTIVE = "executive"
    JUDICIAL = "judicial"


class Severity(enum.StrEnum):
    """How much a rule weighs; only the order of evaluation and of the explanation depends on it, and what a person may
    still allow.
    """

    ADVISORY = "advisory"
    WARNING = "warning"
    BLOCKING = "blocking"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """From 0, advisory, to 3, critical."""
        return _RANKS[self]


_RANKS: Final = {severity: rank for rank, severity in enumerate(Severity)}

#: What follows when a rule applies, the strictest last.
Outcome: TypeAlias = Literal["note", "warn", "require_approval", "deny"]

_ID: Final = re.compile(r"[A-Z][A-Z0-9]*(?:-[A-Z0-9]+)+")
_TEXT_CHARS: Final = 1000
_PATTERNS: Final = 64


class Question(msgspec.Struct, frozen=True):
    """What is to be decided.

    Attributes:
        agent_id: who asks, as the service knows it.
        action: what is to be done.
        effect: that counts; see ``effects.effect_of``.
        environment: name of the environment's class, such as ``production``.
        threshold: magnitude above which an effect is large there.
        roles: of the agent.
        facts: claims about the action, text by name.
        person: whether a person decides about it in any case; what a blocking rule denies is that person's matter then.
    """

    agent_id: str
    action: str
    effect: EffectVector
    environment: str
    threshold: float
    roles: frozenset[str] = frozenset()
    facts: Mapping[str, str] = {}
    person: bool = False


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """When a rule applies. What is empty, or ``None``, holds always.

    Attributes:
        actions: patterns, one of which the action matches.
        agents: patterns, one of which the agent's id matches.
        roles: one of which the agent has.
        environments: classes, one of which the environment is.
        above: figures by dimension, one of which the effect exceeds.
        magnitude_above: the effect's magnitude exceeds this.
        above_threshold: the effect's magnitude exceeds the threshold of the environment.
        facts: patterns by name, all of which the facts match.

    Raises:
        InvalidRequest: a pattern, a dimension or a figure is not acceptable.
    """

    actions: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    above: dict[str, float] = {}
    magnitude_above: float | None = None
    above_threshold: bool = False
    facts: dict[str, str] = {}

    def __post_init__(self) -> None:
        for pattern in (*self.actions, *self.agents, *self.roles, *self.environments, *self.facts.values()):
            if not pattern or len(pattern) > 200 or not pattern.isprintable():
                raise InvalidRequest(f"a pattern of a rule is 1 to 200 printable characters, not {pattern!r:.60}")
        if len(self.actions) + len(self.agents) + len(self.roles) + len(self.facts) > _PATTERNS:
            raise InvalidRequest(f"a rule has at most {_PATTERNS} patterns")
        for name, value in (*self.above.items(), ("magnitude_above", self.magnitude_above)):
            if name not in (*DIMENSIONS, "magnitude_above"):
                raise InvalidRequest(f"there is no dimension {name!r:.40}; there are {', '.join(DIMENSIONS)}")
            if value is not None and (not isfinite(value) or value < 0):
                raise InvalidRequest(f"the limit of {name} is a number from 0 up, not {value}")

    def is_about(self, action: str, environment: str) -> bool:
        """Tell whether it can hold for an action in an environment at all."""
        return _one_matches(self.actions, action) and (not self.environments or environment in self.environments)

    def holds(self, question: Question, magnitude: float) -> bool:
        """Tell whether the rest of it holds, for an action that it is about.

        Args:
            question: to be decided.
            magnitude: of its effect.
        """
        if self.above:
            effect = question.effect
            if not any(getattr(effect, name) > limit for name, limit in self.above.items()):
                return False
        return (
            (not self.above_threshold or magnitude > question.threshold)
            and (self.magnitude_above is None or magnitude > self.magnitude_above)
            and (not self.agents or _one_matches(self.agents, question.agent_id))
            and (not self.roles or not question.roles.isdisjoint(self.roles))
            and (not self.facts or self._facts_match(question.facts))
        )

    def _facts_match(self, facts: Mapping[str, str]) -> bool:
        return all(name in facts and _matches(pattern, facts[name]) for name, pattern in self.facts.items())


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One rule.

    Attributes:
        id: capital letters and digits in parts, joined by ``-``.
        description: for a reader.
        branch: whose it is.
        severity: see ``Severity``.
        outcome: what follows when it applies.
        when: it applies.
        active: whether it counts.
        reference_url: where it is explained.
        sop_category: of the procedure it comes from.

    Raises:
        InvalidRequest: the id or a text is not acceptable, or a weak rule has a strict outcome.
    """

    id: str
    description: str
    branch: Branch
    severity: Severity
    outcome: Outcome
    when: Condition = Condition()
    active: bool = True
    reference_url: str | None = None
    sop_category: str | None = None

    def __post_init__(self) -> None:
        if len(self.id) > 40 or _ID.fullmatch(self.id) is None:
            raise InvalidRequest(f"the id of a rule is capital letters and digits joined by '-', not {self.id!r:.60}")
        for text in (self.description, self.reference_url or "x", self.sop_category or "x"):
            if not 0 < len(text) <= _TEXT_CHARS or not text.isprintable():
                raise InvalidRequest(f"the texts of rule {self.id} are 1 to {_TEXT_CHARS} printable characters")
        if self.outcome in ("deny", "require_approval") and self.severity.rank < Severity.BLOCKING.rank:
            raise InvalidRequest(f"rule {self.id} is {self.severity} and cannot {self.outcome}; make it blocking")

    def to_builtins(self) -> dict[str, Any]:
        """Return it as plain values, for a record."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


def sorted_rules(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Return rules in the order in which they are evaluated: the weightiest first, then by id."""
    return tuple(sorted(rules, key=lambda rule: (-rule.severity.rank, rule.id)))


def _one_matches(patterns: tuple[str, ...], text: str) -> bool:
    return not patterns or any(_matches(pattern, text) for pattern in patterns)


def _matches(pattern: str, text: str) -> bool:
    """Match a pattern of ``*`` and ``?`` against the whole of a text, in time that grows with their product at most.

    Not a regular expression, which somebody who chooses the text could make run for ever; and not ``fnmatch``, for
    which brackets are more than letters.
    """
    at = begin = 0
    star = -1
    for_star = 0
    while begin < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, for_star, at = at, begin, at + 1
        elif at < len(pattern) and pattern[at] in ("?", text[begin]):
            at, begin = at + 1, begin + 1
        elif star >= 0:
            for_star += 1
            at, begin = star + 1, for_star
        else:
            return False
    return not pattern[at:].strip("*")
