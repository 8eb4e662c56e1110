"""A policy: one line of who may or may not do what, attached to a node and valid there and below."""

from __future__ import annotations

from typing import Literal

import msgspec

from weftos.errors import NodeInvalid
from weftos.tree import metadata
from weftos.tree.convert import convert, to_builtins
from weftos.tree.names import Action, Role, check_label

__all__ = ["Effect", "Policy"]

Effect = Literal["allow", "deny"]


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rule of access. What is ``None`` matches everything; all that is given must match.

    Attributes:
        effect: ``allow`` or ``deny``.
        principal: who acts.
        role: in what capacity.
        action: what is to be done.

    Raises:
        NodeInvalid: the effect or the principal is not acceptable.
    """

    effect: Effect
    principal: str | None = None
    role: Role | None = None
    action: Action | None = None

    def __post_init__(self) -> None:
        if self.effect not in ("allow", "deny"):
            raise NodeInvalid(f"the effect of a policy is allow or deny, not {self.effect!r}")
        if self.principal is not None:
            check_label(self.principal, "the principal of a policy")
        for value, cls in ((self.role, Role), (self.action, Action)):
            if value is not None and type(value) is not cls:
                raise NodeInvalid(f"a policy has a {cls.WHAT} or none, not {value!r}")

    def matches(self, principal: str, role: Role, action: Action) -> bool:
        """Tell whether the rule speaks about this principal in this role doing this."""
        return (
            self.principal in (None, principal)
            and (self.role is None or self.role == role)
            and (self.action is None or self.action == action)
        )

    def to_bytes(self) -> bytes:
        """Return the canonical encoding, which the hash of the node covers."""
        return metadata.encode(to_builtins(self))

    @classmethod
    def from_bytes(cls, data: bytes) -> Policy:
        """Read what ``to_bytes`` made.

        Raises:
            NodeInvalid: the bytes are anything else.
        """
        policy: Policy
        try:
            policy = convert(metadata.decode(metadata.read_encoded(data)), cls)
        except msgspec.ValidationError as error:
            raise NodeInvalid(f"this is no policy: {error}") from error
        if policy.to_bytes() != data:
            raise NodeInvalid("a policy is not in its canonical form")
        return policy
