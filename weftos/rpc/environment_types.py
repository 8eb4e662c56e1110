"""Parameters and results of the methods about environments."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

__all__ = ["EnvironmentList", "EnvironmentView", "SwitchParams", "SwitchResult"]

_Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


class EnvironmentView(msgspec.Struct, frozen=True, kw_only=True):
    """An environment.

    Attributes:
        name: of it.
        environment_class: what rules call it.
        risk_threshold: magnitude above which an effect is large.
        max_effect_magnitude: above which nothing is allowed.
        human_approval_required: whether a person may approve what a blocking rule denies.
        active_branches: whose rules count.
        audit_level: how much of each decision is kept.
        learning_mode: what agents may try.
        active: whether it is the one in force.
    """

    name: str
    environment_class: str
    risk_threshold: float
    max_effect_magnitude: float
    human_approval_required: bool
    active_branches: list[str]
    audit_level: str
    learning_mode: str
    active: bool


class EnvironmentList(msgspec.Struct, frozen=True, kw_only=True):
    """The environments that are known.

    Attributes:
        environments: of them one is in force.
    """

    environments: list[EnvironmentView]


class SwitchParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An environment to work in.

    Attributes:
        name: of it; a known one, unless ``fields`` are given.
        fields: of one of your own: ``risk_threshold``, ``max_effect_magnitude``, ``human_approval_required``,
            ``active_branches``, ``audit_level``, ``learning_mode``.
        reason: for the log.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    fields: dict[str, Any] = {}
    reason: _Reason


class SwitchResult(msgspec.Struct, frozen=True, kw_only=True):
    """It is in force.

    Attributes:
        name: of the environment.
        record: number of the record.
    """

    name: str
    record: int
