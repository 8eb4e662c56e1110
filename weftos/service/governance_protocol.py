"""Requests about rules, environments and approvals; part of ``protocol.Request``."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

__all__ = [
    "ApproveRequest",
    "AskApproval",
    "AskGovernance",
    "ChangeGovernance",
    "GovernanceChange",
    "GovernanceRequest",
    "RefuseRequest",
    "SupersedeRules",
    "SwitchEnvironment",
    "TellOutcome",
]


class AskApproval(msgspec.Struct, array_like=True, tag=50):
    """Ask what became of a request of one's own; with the token, once it is approved."""

    request: int


class TellOutcome(msgspec.Struct, array_like=True, tag=51):
    """Tell what came of what was done under a permit: by who presented it, once. ``error`` is empty if it was done."""

    permit: bytes
    error: str = ""
    reason: str = ""


class AskGovernance(msgspec.Struct, array_like=True, tag=52):
    """Ask about rules, environments and approvals: a question of ``governance_desk.QUESTIONS``. Only the kernel may."""

    question: str
    params: dict[str, Any] = {}


class SupersedeRules(msgspec.Struct, tag=1, array_like=True):
    """Change the constitution; payload of ``governance.root.supersede``."""

    change: dict[str, Any]


class SwitchEnvironment(msgspec.Struct, tag=2, array_like=True):
    """Choose an environment, by its fields."""

    environment: dict[str, Any]


class ApproveRequest(msgspec.Struct, tag=3, array_like=True):
    """Approve what an agent asked for; the permit is good for so many seconds."""

    request: int
    valid_secs: float


class RefuseRequest(msgspec.Struct, tag=4, array_like=True):
    """Refuse what an agent asked for."""

    request: int


GovernanceChange: TypeAlias = SupersedeRules | SwitchEnvironment | ApproveRequest | RefuseRequest


class ChangeGovernance(msgspec.Struct, array_like=True, tag=53):
    """Change rules or environment, or decide about a request. Only the kernel may, for a person: ``by`` and ``uid``."""

    change: GovernanceChange
    by: str
    uid: int | None
    reason: str


GovernanceRequest: TypeAlias = AskApproval | TellOutcome | AskGovernance | ChangeGovernance
