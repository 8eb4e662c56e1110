"""The list of revocations is the sum of its records, and no bad record empties it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos import limits
from weftos.chain.canonical import decode_payload, encode_payload
from weftos.errors import DeltaInvalid, DeltaRefused, ResourceLimitExceeded
from weftos.tree.revocations import LOG_KINDS, Revocation, RevocationAdded, RevocationRemoved, Revocations

ONE, TWO = b"\x01" * 32, b"\x02" * 32


def test_add_and_remove() -> None:
    revoked = Revocations()
    revoked.apply(RevocationAdded(certificate=ONE, reason="stolen"), 5, 100)
    assert ONE in revoked
    assert TWO not in revoked
    assert revoked.get(ONE) == Revocation("stolen", 5, 100)
    revoked.apply(RevocationAdded(certificate=ONE, reason="again"), 6, 101)
    assert revoked.get(ONE) == Revocation("stolen", 5, 100)
    assert (len(revoked), revoked.last_seq) == (1, 6)
    revoked.apply(RevocationRemoved(certificate=ONE), 7, 102)
    assert ONE not in revoked
    assert revoked.get(ONE) is None


def test_refusals_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    revoked = Revocations()
    revoked.apply(RevocationAdded(certificate=ONE, reason=""), 5, 100)
    for change, seq in [(RevocationRemoved(certificate=TWO), 6), (RevocationRemoved(certificate=ONE), 5)]:
        with pytest.raises(DeltaRefused):
            revoked.apply(change, seq, 100)
    monkeypatch.setattr(limits, "DELEGATION_REVOCATIONS", 1)
    with pytest.raises(ResourceLimitExceeded):
        revoked.apply(RevocationAdded(certificate=TWO, reason=""), 6, 100)
    assert ONE in revoked
    assert revoked.last_seq == 5


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=30))
def test_replay_gives_the_same_list(steps: list[tuple[bool, int]]) -> None:
    revoked, records, model = Revocations(), [], set()
    for seq, (adds, number) in enumerate(steps):
        name = bytes([number]) * 32
        change = RevocationAdded(certificate=name, reason="x") if adds else RevocationRemoved(certificate=name)
        if not adds and name not in model:
            with pytest.raises(DeltaRefused):
                revoked.apply(change, seq, seq)
            continue
        (model.add if adds else model.remove)(name)
        revoked.apply(change, seq, seq)
        records.append((change.log_kind, encode_payload(change.to_payload()), seq))
    again = Revocations()
    for kind, data, seq in records:
        again.apply(Revocations.from_payload(kind, decode_payload(data)), seq, seq)
    for number in range(6):
        name = bytes([number]) * 32
        assert (name in revoked) == (name in again) == (name in model)
        assert revoked.get(name) == again.get(name)


@pytest.mark.parametrize("kind", sorted(LOG_KINDS))
def test_payloads_are_read_strictly(kind: str) -> None:
    good: dict[str, Any] = {"version": 1, "certificate": ONE}
    if kind == "revocation.add":
        good["reason"] = "x"
    assert Revocations.from_payload(kind, good).to_payload() == good
    for key in good:
        for bad in (None, 2, "x" * 300, "a\n", b"x" * 31, b"x" * 33, 1.0, True, []):
            with pytest.raises(DeltaInvalid):
                Revocations.from_payload(kind, {**good, key: bad})
        with pytest.raises(DeltaInvalid):
            Revocations.from_payload(kind, {name: value for name, value in good.items() if name != key})
    for wrong in ({**good, "x": 1}, [], None, {1: 2}):
        with pytest.raises(DeltaInvalid):
            Revocations.from_payload(kind, wrong)
    with pytest.raises(DeltaInvalid):
        Revocations.from_payload("acl.set", good)
