"""The constitution: which rules are in force, and who may change them.

Why it is as it is: rules that a program carries along change with the program, and rules that anybody may append are no
rules. So they stand on the log: one record begins them, each change is a record that names the hash of what it changes,
and what is in force is the sum. A change is signed by the keys of the branches whose rules it touches. Making anything
milder (a rule gone or put to rest, the threshold raised) takes all three.

Guaranteed: the sum depends on the records alone; a change that is not signed as it must be, or does not follow on what
is in force, is refused, wherever it comes from. Not guaranteed: that keys of different branches are held by different
people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Self, TypeVar

import msgspec
from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from weftos.errors import GovernanceDenied, InvalidRequest
from weftos.governance.articles import ARTICLES, THRESHOLD
from weftos.governance.engine import Engine
from weftos.governance.environments import Environment, EnvironmentClass
from weftos.governance.rules import Branch, Rule

__all__ = ["GENESIS_KIND", "SUPERSEDE_KIND", "Constitution", "Genesis", "Supersede"]

GENESIS_KIND: Final = "governance.genesis"
SUPERSEDE_KIND: Final = "governance.root.supersede"

_TAG: Final = b"exo/governance/supersede/v1\0"
_HASH_TAG: Final = b"exo/governance/constitution/v1\0"
_MOST_RULES: Final = 500
#: Magnitude of the worst effect there is, and a little more.
_ANY: Final = 2.25
_encode: Final = msgspec.msgpack.Encoder(order="deterministic").encode


T = TypeVar("T")


class Genesis(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How it begins; payload of ``governance.genesis``.

    Attributes:
        version: of the constitution, from 1.
        risk_threshold: magnitude above which an effect is large, where no environment says otherwise.
        human_approval_required: whether a person may approve what a blocking rule denies, where no environment says
            otherwise.
        rules: in force.
        keys: public Ed25519 key of each branch, 32 bytes.
    """

    version: int = 1
    risk_threshold: float = THRESHOLD
    human_approval_required: bool = False
    rules: tuple[Rule, ...] = ARTICLES
    keys: dict[Branch, bytes]

    def to_payload(self) -> dict[str, Any]:
        """Return the payload of the record."""
        return _plain(self)

    @classmethod
    def from_payload(cls, payload: object) -> Self:
        """Read the payload of a record.

        Raises:
            InvalidRequest: it is malformed.
        """
        return _read(payload, cls, GENESIS_KIND)


class Supersede(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A change; payload of ``governance.root.supersede``.

    Attributes:
        previous: hash of the constitution that it changes, 32 bytes.
        version: of the one that it makes, one more than that.
        reason: why, for a reader.
        added: rules that are new, or take the place of those with their ids.
        removed: ids of rules that go.
        risk_threshold: the new one, or ``None`` to leave it.
        signatures: Ed25519 signature of each branch that agrees, over ``message()``.
    """

    previous: bytes
    version: int
    reason: str
    added: tuple[Rule, ...] = ()
    removed: tuple[str, ...] = ()
    risk_threshold: float | None = None
    signatures: dict[Branch, bytes] = {}

    def message(self) -> bytes:
        """Return the bytes that are signed: everything but the signatures."""
        return _TAG + _encode(_plain(msgspec.structs.replace(self, signatures={})))

    def to_payload(self) -> dict[str, Any]:
        """Return the payload of the record."""
        return _plain(self)

    @classmethod
    def from_payload(cls, payload: object) -> Self:
        """Read the payload of a record.

        Raises:
            InvalidRequest: it is malformed.
        """
        return _read(payload, cls, SUPERSEDE_KIND)


class Constitution(msgspec.Struct, frozen=True, kw_only=True):
    """What is in force. Made by ``begin``, changed by ``superseded_by``, or added up by ``fold``.

    Attributes:
        version: from 1.
        risk_threshold: where no environment says otherwise.
        human_approval_required: where no environment says otherwise.
        rules: by id.
        keys: of the branches.
    """

    version: int
    risk_threshold: float
    human_approval_required: bool
    rules: tuple[Rule, ...]
    keys: dict[Branch, bytes]

    @classmethod
    def begin(cls, genesis: Genesis) -> Self:
        """Return the first one.

        Raises:
            InvalidRequest: it is not acceptable.
        """
        if genesis.version != 1:
            raise InvalidRequest(f"a constitution begins with version 1, not {genesis.version}")
        made = cls(
            version=1,
            risk_threshold=genesis.risk_threshold,
            human_approval_required=genesis.human_approval_required,
            rules=tuple(sorted(genesis.rules, key=_id)),
            keys=dict(genesis.keys),
        )
        made._check()
        return made

    @classmethod
    def fold(cls, payloads: Iterable[tuple[str, Mapping[str, Any]]]) -> Self | None:
        """Add up the records of a log.

        Args:
            payloads: kind and payload of each record of one of the two kinds, in their order.

        Returns:
            What is in force; ``None`` if it has not begun.

        Raises:
            InvalidRequest: a record is malformed, or it begins twice, or a change comes before the beginning.
            GovernanceDenied: a change was not allowed.
        """
        found: Self | None = None
        for kind, payload in payloads:
            if kind == GENESIS_KIND:
                if found is not None:
                    raise InvalidRequest("the log has two constitutions; one must supersede the other, not begin again")
                found = cls.begin(Genesis.from_payload(payload))
            elif found is None:
                raise InvalidRequest("a change of the constitution comes before its beginning")
            else:
                found = found.superseded_by(Supersede.from_payload(payload))
        return found

    @property
    def hash(self) -> bytes:
        """Hash of all of it, 32 bytes."""
        return blake3(_HASH_TAG + _encode(_plain(self))).digest()

    @property
    def environment(self) -> Environment:
        """The environment that holds where no other is chosen."""
        return Environment(
            name="default",
            environment_class=EnvironmentClass.CUSTOM,
            risk_threshold=self.risk_threshold,
            max_effect_magnitude=_ANY,
            human_approval_required=self.human_approval_required,
        )

    def engine(self) -> Engine:
        """Return what evaluates its rules."""
        return Engine(self.rules)

    def who_must_agree(self, change: Supersede) -> frozenset[Branch]:
        """Return the branches whose signatures a change needs."""
        known = {rule.id: rule for rule in self.rules}
        touched = [known[name] for name in change.removed if name in known]
        touched += [known[rule.id] for rule in change.added if rule.id in known]
        if touched or (change.risk_threshold is not None and change.risk_threshold > self.risk_threshold):
            # What is there is taken away or replaced. Whether the new words are milder is nothing that can be computed.
            return frozenset(Branch)
        branches = {rule.branch for rule in change.added}
        if change.risk_threshold is not None:
            branches.add(Branch.JUDICIAL)
        return frozenset(branches)

    def superseded_by(self, change: Supersede) -> Self:
        """Return what is in force after a change.

        Raises:
            GovernanceDenied: it does not follow on this, or is not signed by all who must agree.
            InvalidRequest: what it would make is not acceptable, or it changes nothing.
        """
        if change.previous != self.hash:
            raise GovernanceDenied("the change is about another constitution than the one in force")
        if change.version != self.version + 1:
            raise GovernanceDenied(f"version {self.version + 1} comes next, not {change.version}")
        self._check_signatures(change)
        return self.changed_by(change)

    def changed_by(self, change: Supersede) -> Self:
        """Return what a change would make, whoever signed it; for a look beforehand.

        Raises:
            InvalidRequest: that is not acceptable, or it changes nothing.
        """
        unknown = [name for name in change.removed if name not in {rule.id for rule in self.rules}]
        if unknown:
            raise InvalidRequest(f"there is no rule {unknown[0]} that could be removed")
        if not (change.added or change.removed or change.risk_threshold is not None):
            raise InvalidRequest("the change changes nothing")
        if not 0 < len(change.reason) <= 1000:
            raise InvalidRequest("a change gives its reason, in 1 to 1000 characters")
        new = {rule.id: rule for rule in change.added}
        if len(new) != len(change.added) or not set(new).isdisjoint(change.removed):
            raise InvalidRequest("a change names each rule once")
        kept = [rule for rule in self.rules if rule.id not in new and rule.id not in change.removed]
        made = msgspec.structs.replace(
            self,
            version=change.version,
            rules=tuple(sorted([*kept, *new.values()], key=_id)),
            risk_threshold=self.risk_threshold if change.risk_threshold is None else change.risk_threshold,
        )
        made._check()
        return made

    def _check_signatures(self, change: Supersede) -> None:
        message = change.message()
        for branch in sorted(self.who_must_agree(change)):
            signature = change.signatures.get(branch)
            if signature is None:
                raise GovernanceDenied(f"the change needs the signature of the {branch} branch")
            try:
                Ed25519PublicKey.from_public_bytes(self.keys[branch]).verify(signature, message)
            except InvalidSignature:
                raise GovernanceDenied(f"the signature of the {branch} branch is not over this change") from None

    def _check(self) -> None:
        if set(self.keys) != set(Branch) or any(len(key) != 32 for key in self.keys.values()):
            raise InvalidRequest("a constitution has one public key of 32 bytes for each branch")
        if not 0 <= self.risk_threshold <= 1:
            raise InvalidRequest(f"the risk threshold is from 0 to 1, not {self.risk_threshold}")
        if len(self.rules) > _MOST_RULES:
            raise InvalidRequest(f"a constitution has at most {_MOST_RULES} rules")
        ids = [rule.id for rule in self.rules]
        if len(set(ids)) != len(ids):
            raise InvalidRequest("two rules have the same id")


def _id(rule: Rule) -> str:
    return rule.id


def _plain(struct: msgspec.Struct) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(struct, builtin_types=(bytes,), str_keys=True)
    return plain


def _read(payload: object, kind: type[T], name: str) -> T:
    try:
        return msgspec.convert(payload, kind, builtin_types=(bytes,), strict=True)
    except (msgspec.ValidationError, TypeError, RecursionError, UnicodeError) as error:
        raise InvalidRequest(f"the payload of {name} is malformed: {error}") from error
