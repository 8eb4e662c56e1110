"""Requests about the resource tree: questions, and who may do what; part of ``protocol.Request``."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

__all__ = [
    "AskTree",
    "ChangeTree",
    "IssueCertificate",
    "RemoveRule",
    "RestoreCertificate",
    "RevokeCertificate",
    "SetRule",
    "TreeChange",
    "TreeRequest",
]


class AskTree(msgspec.Struct, array_like=True, tag=10):
    """Ask about the resource tree: a question of ``tree_desk.QUESTIONS``, a path, and what else it takes.

    An agent sees what it may read. With certificates, each as its bytes, it sees what the last one lets it read.
    """

    question: str
    path: str = "/"
    params: dict[str, Any] = {}
    certificates: list[bytes] = []


class SetRule(msgspec.Struct, tag=1, array_like=True):
    """Put a rule on a resource: ``allow`` or ``deny``; of principal, role and action what is ``None`` fits all."""

    path: str
    policy_id: str
    effect: str
    principal: str | None = None
    role: str | None = None
    action: str | None = None


class RemoveRule(msgspec.Struct, tag=2, array_like=True):
    """Take a rule from a resource."""

    path: str
    policy_id: str


class IssueCertificate(msgspec.Struct, tag=3, array_like=True):
    """Sign a certificate: ``key:HEX`` or ``agent:NAME`` may do ``actions`` from ``prefix`` down for a while."""

    subject: str
    prefix: str
    actions: list[str]
    valid_secs: float
    max_depth: int = 0


class RevokeCertificate(msgspec.Struct, tag=4, array_like=True):
    """Declare a certificate, by its identifier of 32 bytes, and what rests on it, valid no more."""

    certificate: bytes


class RestoreCertificate(msgspec.Struct, tag=5, array_like=True):
    """Take a revocation back."""

    certificate: bytes


TreeChange: TypeAlias = SetRule | RemoveRule | IssueCertificate | RevokeCertificate | RestoreCertificate


class ChangeTree(msgspec.Struct, array_like=True, tag=20):
    """Change who may do what. Only the kernel may; ``by`` and ``reason`` go on the log."""

    change: TreeChange
    by: str
    reason: str


TreeRequest: TypeAlias = AskTree | ChangeTree
