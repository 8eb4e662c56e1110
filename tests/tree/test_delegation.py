"""Delegation: what a chain gives, everything that makes it give nothing, and that authority never grows along it."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from trees_for_tests import P

from weftos import limits
from weftos.errors import (
    CapabilityDenied,
    DelegationError,
    DelegationExpired,
    DelegationInvalid,
    DelegationRevoked,
    PathInvalid,
)
from weftos.tree.authority import Grant, authorize, verify_chain
from weftos.tree.delegation import Certificate, agent_subject, issue, key_subject
from weftos.tree.names import Action
from weftos.tree.paths import ROOT

KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in range(9)]
PUBLIC = [key.public_key().public_bytes_raw() for key in KEYS]
READ, WRITE, ADMIN = Action("read"), Action("write"), Action("admin")
T0 = 10**18
HOUR = 3600 * 10**9


def make(issuer: int = 0, to: int | str = 1, **change: Any) -> Certificate:
    fields: dict[str, Any] = {
        "subject": key_subject(PUBLIC[to]) if isinstance(to, int) else agent_subject(to),
        "prefix": P("/kernel/agents"),
        "actions": frozenset((READ, WRITE)),
        "not_before_ns": T0,
        "not_after_ns": T0 + HOUR,
        "nonce": bytes(16),
        "max_depth": 2 if isinstance(to, int) else 0,
    }
    return issue(KEYS[issuer], **{**fields, **change})


def child(above: Certificate, issuer: int = 1, to: int | str = "a", **change: Any) -> Certificate:
    fields: dict[str, Any] = {"parent": above, "max_depth": max(above.max_depth - 1, 0) if isinstance(to, int) else 0}
    return make(issuer, to, **{**fields, **change})


def verify(*chain: Certificate, **change: Any) -> Grant:
    arguments: dict[str, Any] = {"trusted": {PUBLIC[0]: ROOT}, "now_ns": T0 + 1, "revoked": set()}
    return verify_chain(chain, **{**arguments, **change})


def test_one_certificate() -> None:
    certificate = make(to="a")
    grant = verify(certificate)
    assert grant == Grant("agent:a", P("/kernel/agents"), frozenset((READ, WRITE)), T0 + HOUR, (certificate.id,))


def test_a_chain_that_narrows() -> None:
    first = make()
    second = child(first, 1, 2, prefix=P("/kernel/agents/a"), not_after_ns=T0 + HOUR // 2)
    third = child(
        second, 2, "a", prefix=P("/kernel/agents/a/x"), actions=frozenset((READ,)), not_after_ns=T0 + HOUR // 2
    )
    grant = verify(first, second, third)
    assert (grant.subject, str(grant.prefix), grant.actions) == ("agent:a", "/kernel/agents/a/x", {READ})
    assert grant.chain == (first.id, second.id, third.id)
    assert grant.not_after_ns == T0 + HOUR // 2


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"prefix": P("/kernel")}, "outside"),
        ({"prefix": ROOT}, "outside"),
        ({"prefix": P("/kernel/agentsx")}, "outside"),
        ({"actions": frozenset((READ, ADMIN))}, "actions"),
        ({"not_before_ns": T0 - 1}, "begins before"),
        ({"not_after_ns": T0 + HOUR + 1}, "ends after"),
        ({"parent": None}, "does not name"),
        ({"parent": make(nonce=b"\x01" * 16)}, "does not name"),
        ({"to": 3, "max_depth": 2}, "oftener"),
        ({"to": 3, "max_depth": 3}, "oftener"),
        ({"issuer": 2}, "not issued by"),
        ({"issuer": 0}, "not issued by"),
    ],
)
def test_a_child_within_its_parent(change: dict[str, Any], what: str) -> None:
    first = make()
    verify(first, child(first))
    with pytest.raises(DelegationInvalid, match=what):
        verify(first, child(first, **change))


def test_depth() -> None:
    first = make(max_depth=1)
    second = child(first, 1, 2)
    assert second.max_depth == 0
    verify(first, second)
    with pytest.raises(DelegationInvalid, match="oftener"):
        verify(first, second, child(second, 2, "a"))
    with pytest.raises(DelegationInvalid):
        make(to="a", max_depth=1)
    chain = [make(max_depth=limits.DELEGATION_DEPTH - 1)]
    for number in range(1, limits.DELEGATION_DEPTH):
        chain.append(child(chain[-1], number, number + 1))
    verify(*chain)
    for bad in ([], [*chain, chain[-1]]):
        with pytest.raises(DelegationInvalid, match="1 to 8"):
            verify(*bad)
    with pytest.raises(DelegationInvalid):
        make(max_depth=limits.DELEGATION_DEPTH)


def test_trust() -> None:
    first = make()
    with pytest.raises(DelegationInvalid, match="not trusted"):
        verify(first, trusted={})
    with pytest.raises(DelegationInvalid, match="not trusted"):
        verify(child(first), trusted={PUBLIC[0]: ROOT})
    with pytest.raises(DelegationInvalid, match="missing"):
        verify(child(first), trusted={PUBLIC[1]: ROOT})
    verify(first, trusted={PUBLIC[0]: P("/kernel")})
    with pytest.raises(DelegationInvalid, match="within /kernel/agents/a"):
        verify(first, trusted={PUBLIC[0]: P("/kernel/agents/a")})


@pytest.mark.parametrize(
    ("now", "valid"), [(T0 - 1, False), (T0, True), (T0 + HOUR - 1, True), (T0 + HOUR, False), (0, False)]
)
def test_time(now: int, valid: bool) -> None:
    first = make()
    for chain in ([first], [first, child(first, not_before_ns=T0)]):
        if valid:
            verify(*chain, now_ns=now)
        else:
            with pytest.raises(DelegationExpired):
                verify(*chain, now_ns=now)


def test_a_valid_end_of_a_chain_that_has_begun_too_late() -> None:
    first = make()
    second = child(first, not_before_ns=T0 + 100)
    with pytest.raises(DelegationExpired, match="yet"):
        verify(first, second, now_ns=T0 + 50)
    verify(first, second, now_ns=T0 + 100)


def test_revocation_reaches_what_rests_on_it() -> None:
    first = make()
    second, other = child(first), child(first, to="b")
    for revoked in (first, second):
        with pytest.raises(DelegationRevoked):
            verify(first, second, revoked={revoked.id})
    verify(first, other, revoked={second.id})
    with pytest.raises(DelegationRevoked):
        verify(first, other, revoked={first.id})


def test_the_signature_covers_everything() -> None:
    certificate = make()
    changes: dict[str, Any] = {
        "issuer": PUBLIC[2],
        "subject": key_subject(PUBLIC[2]),
        "prefix": ROOT,
        "actions": (ADMIN,),
        "not_before_ns": T0 - 1,
        "not_after_ns": T0 + HOUR + 1,
        "max_depth": 3,
        "parent": bytes(32),
        "nonce": b"\x01" * 16,
    }
    assert set(changes) | {"version", "signature"} == set(Certificate.__struct_fields__)
    for name, value in changes.items():
        forged = msgspec.structs.replace(certificate, **{name: value})
        assert forged.id != certificate.id
        with pytest.raises(DelegationInvalid, match="signed"):
            forged.verify_signature()
    other = msgspec.structs.replace(certificate, signature=bytes(64))
    assert other.id == certificate.id, "a revocation holds for every signature"
    with pytest.raises(DelegationInvalid, match="signed"):
        verify(other)


def test_parts_cannot_move_into_each_other() -> None:
    one = make(actions=frozenset((Action("custom:a"), Action("custom:ab"))))
    two = make(actions=frozenset((Action("custom:aa"), Action("custom:b"))))
    assert len({one.statement, two.statement, make(prefix=P("/kernel/agent")).statement, make().statement}) == 4


@pytest.mark.parametrize(
    ("action", "resource", "subject", "allowed"),
    [
        (READ, "/kernel/agents/a", "agent:a", True),
        (READ, "/kernel/agents/a/x/y", "agent:a", True),
        (READ, "/kernel/agents/ab", "agent:a", False),
        (READ, "/kernel/agents", "agent:a", False),
        (ADMIN, "/kernel/agents/a", "agent:a", False),
        (READ, "/kernel/agents/a", "agent:ab", False),
        (READ, "/kernel/agents/a", key_subject(PUBLIC[1]), False),
    ],
)
def test_use(action: Action, resource: str, subject: str, allowed: bool) -> None:
    first = make()
    chain = [first, child(first, prefix=P("/kernel/agents/a"))]
    question: dict[str, Any] = {
        "subject": subject,
        "action": action,
        "resource": P(resource),
        "trusted": {PUBLIC[0]: ROOT},
        "now_ns": T0,
        "revoked": (),
    }
    if allowed:
        assert authorize(chain, **question).subject == subject
    else:
        with pytest.raises(CapabilityDenied):
            authorize(chain, **question)
    with pytest.raises(DelegationRevoked):
        authorize(chain, **{**question, "revoked": {first.id}})


def test_a_path_that_climbs_is_no_path() -> None:
    with pytest.raises(PathInvalid):
        P("/kernel/agents/a/../b")


def test_bytes() -> None:
    certificate = child(make())
    data = certificate.to_bytes()
    assert Certificate.from_bytes(data) == certificate
    for place in range(len(data)):
        for flip in (1, 0x20, 0x80):
            changed = bytearray(data)
            changed[place] ^= flip
            with pytest.raises(DelegationInvalid):
                Certificate.from_bytes(bytes(changed)).verify_signature()
    for bad in (b"", data[:-1], data + b"\x00", b"\x80", b"\x00" * (limits.DELEGATION_BYTES + 1)):
        with pytest.raises(DelegationInvalid):
            Certificate.from_bytes(bad)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(DelegationInvalid):
        Certificate.from_bytes(data)


@pytest.mark.parametrize(
    "change",
    [
        {"subject": "bob"},
        {"subject": "key:00"},
        {"subject": key_subject(PUBLIC[1]).upper()},
        {"subject": "agent:"},
        {"subject": "agent:a\n", "max_depth": 0},
        {"actions": frozenset()},
        {"actions": frozenset(Action(f"custom:{number}") for number in range(65))},
        {"not_after_ns": T0},
        {"not_after_ns": T0 + limits.DELEGATION_LIFE_NS + 1},
        {"not_before_ns": -1},
        {"not_after_ns": 2**63},
        {"nonce": bytes(15)},
        {"max_depth": -1},
        {"max_depth": True},
    ],
)
def test_certificates_that_cannot_be(change: dict[str, Any]) -> None:
    with pytest.raises(DelegationInvalid):
        make(**change)


def test_the_largest_certificate_can_be_read() -> None:
    actions = frozenset(Action("custom:" + f"{number:02}".ljust(limits.TREE_NAME_BYTES, "x")) for number in range(64))
    certificate = make(prefix=P(("/" + "a" * 255) * 4), actions=actions, parent=make())
    assert Certificate.from_bytes(certificate.to_bytes()) == certificate


PREFIXES = ["/", "/a", "/ab", "/a/b", "/a/b/c"]
LINKS = st.tuples(
    st.sampled_from(PREFIXES),
    st.sets(st.sampled_from([READ, WRITE, ADMIN]), min_size=1),
    st.integers(0, 5),
    st.integers(6, 10),
    st.integers(0, 3),
)


@given(st.lists(LINKS, min_size=1, max_size=4), st.integers(0, 10))
def test_authority_never_grows(links: list[Any], now: int) -> None:
    chain: list[Certificate] = []
    for place, (prefix, actions, begin, end, depth) in enumerate(links):
        chain.append(
            make(place, place + 1, prefix=P(prefix), actions=frozenset(actions), not_before_ns=begin, not_after_ns=end,
                 max_depth=depth, parent=chain[-1] if chain else None)
        )  # fmt: skip
    try:
        grant = verify(*chain, now_ns=now)
    except DelegationError:
        narrows = all(
            (b[0] == a[0] or b[0].startswith(a[0].rstrip("/") + "/"))
            and b[1] <= a[1] and a[2] <= b[2] and b[3] <= a[3] and b[4] < a[4]
            for a, b in itertools.pairwise(links)
        )  # fmt: skip
        assert not narrows or not all(link[2] <= now < link[3] for link in links)
        return
    for certificate, link in zip(chain, links, strict=True):
        assert grant.prefix.is_within(certificate.prefix)
        assert grant.actions <= set(certificate.actions)
        assert link[2] <= now < link[3]
    assert [c.max_depth for c in chain] == sorted({c.max_depth for c in chain}, reverse=True)
