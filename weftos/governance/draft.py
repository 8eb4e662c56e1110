"""A change of the constitution as a person writes it down, before it names what it changes and is signed.

    reason = "nobody deletes without asking"      # TOML, or the same as JSON
    [[rule]]
    id = "OPS-001"
    description = "deletions are approved by a person"
    branch = "executive"
    severity = "blocking"
    outcome = "require_approval"
    when = { actions = ["tool.fs.remove"] }

Pure: from text to a change, and to what it would make.
"""

from __future__ import annotations

from typing import Self

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from weftos.errors import GovernanceDenied, InvalidRequest
from weftos.governance.constitution import Constitution, Supersede
from weftos.governance.rules import Branch, Rule

__all__ = ["Draft", "signed"]


class Draft(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What is to change.

    Attributes:
        reason: why, for a reader.
        rules: that are new, or take the place of those with their ids; ``rule`` in the text.
        removed: ids of rules that go.
        risk_threshold: the new one, or ``None`` to leave it.
    """

    reason: str
    rules: tuple[Rule, ...] = msgspec.field(name="rule", default=())
    removed: tuple[str, ...] = ()
    risk_threshold: float | None = None

    @classmethod
    def parse(cls, text: bytes, *, as_json: bool) -> Self:
        """Read it.

        Args:
            text: TOML or JSON.
            as_json: which of them.

        Raises:
            InvalidRequest: it is malformed.
        """
        try:
            return msgspec.json.decode(text, type=cls) if as_json else msgspec.toml.decode(text, type=cls)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"the change is malformed: {error}") from error

    def on(self, constitution: Constitution) -> Supersede:
        """Return the change of a constitution that this is, unsigned."""
        return Supersede(
            previous=constitution.hash,
            version=constitution.version + 1,
            reason=self.reason,
            added=self.rules,
            removed=self.removed,
            risk_threshold=self.risk_threshold,
        )

    def applied_to(self, constitution: Constitution) -> Constitution:
        """Return what would be in force, whoever signed; the same constitution if nothing is to change.

        Raises:
            InvalidRequest: there can be no such change.
        """
        if not (self.rules or self.removed or self.risk_threshold is not None):
            return constitution
        return constitution.changed_by(self.on(constitution))


def signed(constitution: Constitution, change: Supersede, keys: list[bytes]) -> Supersede:
    """Add signatures to a change.

    Args:
        constitution: in force.
        change: of it.
        keys: private keys of branches, 32 bytes each.

    Raises:
        GovernanceDenied: a key is of no branch.
    """
    found: dict[Branch, bytes] = dict(change.signatures)
    for seed in keys:
        key = Ed25519PrivateKey.from_private_bytes(seed)
        public = key.public_key().public_bytes_raw()
        branches = [branch for branch, known in constitution.keys.items() if known == public]
        if not branches:
            raise GovernanceDenied(f"the key {public.hex()[:16]}… is of no branch of the constitution in force")
        found |= {branch: key.sign(change.message()) for branch in branches}
    return msgspec.structs.replace(change, signatures=found)
