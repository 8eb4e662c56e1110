"""Environments: how strict the same rules are where work is tried, staged, or real.

Why it is as it is: the environment is a part of the question, not something that is done to the answer. So a rule can
name environments, and what has to be decided by a person stays with a person in each of them.
"""

from __future__ import annotations

import enum
from math import isfinite
from typing import Final, Literal, TypeAlias

import msgspec

from weftos.errors import InvalidRequest
from weftos.governance.rules import Branch

__all__ = ["STANDARD", "AuditLevel", "Environment", "EnvironmentClass", "LearningMode"]

AuditLevel: TypeAlias = Literal["session_summary", "per_action", "per_action_with_effects"]
LearningMode: TypeAlias = Literal["explore", "validate", "exploit"]


class EnvironmentClass(enum.StrEnum):
    """What kind of work is done."""

    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"
    CUSTOM = "custom"


class Environment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One environment.

    Attributes:
        name: of it.
        environment_class: what rules call it.
        risk_threshold: magnitude above which an effect is large, 0 to 1.
        max_effect_magnitude: magnitude above which nothing is allowed, whoever approves.
        human_approval_required: whether what a blocking rule denies may be approved by a person.
        active_branches: whose rules count.
        audit_level: how much of each decision is kept.
        learning_mode: what agents may try.

    Raises:
        InvalidRequest: a figure is out of range, or no branch is active.
    """

    name: str
    environment_class: EnvironmentClass
    risk_threshold: float
    max_effect_magnitude: float = 1.0
    human_approval_required: bool = False
    active_branches: frozenset[Branch] = frozenset(Branch)
    audit_level: AuditLevel = "per_action"
    learning_mode: LearningMode = "validate"

    def __post_init__(self) -> None:
        if not isfinite(self.risk_threshold) or not 0 <= self.risk_threshold <= 1:
            raise InvalidRequest(f"the risk threshold of {self.name} is from 0 to 1, not {self.risk_threshold}")
        if not isfinite(self.max_effect_magnitude) or self.max_effect_magnitude < 0:
            raise InvalidRequest(f"the largest magnitude in {self.name} is from 0 up, not {self.max_effect_magnitude}")
        if not self.active_branches:
            raise InvalidRequest(f"in {self.name} no branch would count; nothing would be governed")
        if not 0 < len(self.name) <= 64 or not self.name.isprintable():
            raise InvalidRequest("the name of an environment is 1 to 64 printable characters")


STANDARD: Final[dict[str, Environment]] = {
    one.name: one
    for one in (
        Environment(
            name="development",
            environment_class=EnvironmentClass.DEVELOPMENT,
            risk_threshold=0.9,
            max_effect_magnitude=2.0,
            active_branches=frozenset((Branch.LEGISLATIVE, Branch.EXECUTIVE)),
            audit_level="session_summary",
            learning_mode="explore",
        ),
        Environment(
            name="staging",
            environment_class=EnvironmentClass.STAGING,
            risk_threshold=0.6,
            max_effect_magnitude=1.0,
        ),
        Environment(
            name="production",
            environment_class=EnvironmentClass.PRODUCTION,
            risk_threshold=0.3,
            max_effect_magnitude=0.5,
            human_approval_required=True,
            audit_level="per_action_with_effects",
            learning_mode="exploit",
        ),
    )
}
