"""Requests and permits: the queue is the sum of its records, a permit is good for one thing, once."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from weftos.errors import InvalidRequest
from weftos.governance.approvals import Approvals
from weftos.governance.permits import TOKEN_BYTES, Binding, Permission, args_hash, fault, token_id, token_of

KEY = bytes(range(32))
HASH = bytes(32)
BOOT = bytes(16)
BINDING = Binding(
    boot_id=BOOT,
    pid=3,
    agent_id="cleaner.3",
    incarnation=1,
    executor=3,
    action="tool.fs.remove",
    args_hash=args_hash("tool.fs.remove", {"path": "/x"}),
    constitution=HASH,
)
PERMIT = Permission(id=b"i" * 16, request=5, binding=BINDING, expires_ns=1000, record=7)
OTHERS = {
    "boot_id": b"b" * 16,
    "pid": 4,
    "agent_id": "cleaner.4",
    "incarnation": 2,
    "executor": 0,
    "action": "tool.exec",
    "args_hash": b"h" * 32,
    "constitution": b"c" * 32,
}


def test_a_permit_is_good_for_what_it_was_made_for():
    assert fault(KEY, token_of(KEY, PERMIT), PERMIT, BINDING, 999) == ""
    assert token_id(token_of(KEY, PERMIT)) == PERMIT.id


@pytest.mark.parametrize("name", Binding.__struct_fields__)
def test_and_for_nothing_else(name):
    wanted = msgspec.structs.replace(BINDING, **{name: OTHERS[name]})
    assert fault(KEY, token_of(KEY, PERMIT), PERMIT, wanted, 0)
    # Nor does it help to claim that the log had said so.
    forged = msgspec.structs.replace(PERMIT, binding=wanted)
    assert fault(KEY, token_of(KEY, PERMIT), forged, wanted, 0) == "it was altered"


def test_nor_after_its_time_nor_from_another_key():
    assert "expired" in fault(KEY, token_of(KEY, PERMIT), PERMIT, BINDING, 1000)
    assert fault(KEY, token_of(bytes(32), PERMIT), PERMIT, BINDING, 0) == "it was altered"


@given(st.integers(0, TOKEN_BYTES * 8 - 1))
def test_one_bit_makes_it_worthless(bit):
    token = bytearray(token_of(KEY, PERMIT))
    token[bit // 8] ^= 1 << bit % 8
    assert token_id(bytes(token)) != PERMIT.id or fault(KEY, bytes(token), PERMIT, BINDING, 0)


@given(st.binary(max_size=80))
def test_any_bytes_are_answered(token):
    assert token_id(token) is None or len(token) == TOKEN_BYTES
    assert fault(KEY, token, PERMIT, BINDING, 0)


def test_arguments_are_equal_whatever_their_order():
    assert args_hash("a", {"x": 1, "y": [2]}) == args_hash("a", {"y": [2], "x": 1})
    assert args_hash("a", {"x": 1}) != args_hash("b", {"x": 1})
    with pytest.raises(InvalidRequest):
        args_hash("a", {"x": object()})


def asked(binding=BINDING, expires=10**6):
    told = {"context": {}, "environment": "default", "rule": "R-1", "why": "w", "expires_ns": expires}
    return msgspec.structs.asdict(binding) | told


def minted(number, request, binding=BINDING, expires=10**6):
    return msgspec.structs.asdict(binding) | {"id": b"%016d" % number, "request": request, "expires_ns": expires}


class Queue(RuleBasedStateMachine):
    """Any records in any order, against a model of plain words."""

    def __init__(self):
        super().__init__()
        self.sum, self.records = Approvals(), []
        self.states, self.permits, self.used = {}, {}, {}

    def take(self, kind, payload):
        seq = len(self.records)
        self.records.append((kind, payload))
        self.sum.take(kind, payload, seq)
        return seq

    @rule(pid=st.integers(1, 3))
    def ask(self, pid):
        self.states[self.take("gate.request", asked(msgspec.structs.replace(BINDING, pid=pid)))] = "pending"

    @rule(number=st.integers(0, 30), verb=st.sampled_from(["approve", "refuse"]))
    def decide(self, number, verb):
        self.take(f"gate.{verb}", {"request": number, "by": "user:a", "uid": 1, "reason": "r"})
        if self.states.get(number) == "pending":
            self.states[number] = f"{verb}d"

    @rule(number=st.integers(0, 30))
    def expire(self, number):
        self.take("gate.expire", {"request": number})
        if self.states.get(number) == "pending":
            self.states[number] = "expired"

    @rule(number=st.integers(0, 30), permit=st.integers(0, 9))
    def mint(self, number, permit):
        self.take("permit.mint", minted(permit, number))
        if self.states.get(number) == "approved" and number not in self.permits.values():
            self.permits[b"%016d" % permit] = number

    @rule(permit=st.integers(0, 9))
    def use(self, permit):
        name = b"%016d" % permit
        seq = self.take("permit.use", {"id": name, "request": 0, "pid": 1, "executor": 1, "action": "x"})
        if name in self.permits:
            self.used.setdefault(name, seq)

    @rule()
    def crash(self):
        """After a restart the sum is the same."""
        again = Approvals()
        for seq, (kind, payload) in enumerate(self.records):
            again.take(kind, payload, seq)
        assert vars(again) == vars(self.sum)

    @invariant()
    def agrees(self):
        assert {number: one.state for number, one in self.sum.requests.items()} == self.states
        pending = [number for number, state in self.states.items() if state == "pending"]
        assert [one.id for one in self.sum.waiting()] == pending
        assert self.sum.used == self.used
        for binding in {one.binding for one in self.sum.requests.values()}:
            free = self.sum.permit_for(binding, 0)
            assert free is None or free.id not in self.used, "a permit is used once"


TestQueue = Queue.TestCase


def test_a_request_is_decided_once():
    found = Approvals()
    found.take("gate.request", asked(), 5)
    found.take("gate.refuse", {"request": 5, "by": "user:a", "reason": "no"}, 6)
    found.take("gate.approve", {"request": 5, "by": "user:b", "reason": "yes"}, 7)
    found.take("permit.mint", minted(1, 5), 8)
    assert (found.requests[5].state, found.requests[5].by, found.permits) == ("refused", "user:a", {})


def test_what_ended_long_ago_is_forgotten_and_what_waits_is_not():
    found = Approvals()
    found.take("gate.request", asked(expires=10), 1)
    found.take("gate.request", asked(msgspec.structs.replace(BINDING, pid=9), expires=10), 2)
    found.take("gate.approve", {"request": 1, "by": "user:b", "reason": "yes"}, 3)
    found.take("permit.mint", minted(1, 1, expires=50), 4)
    found.forget(40)
    assert set(found.requests) == {1, 2}
    found.forget(60)
    assert (set(found.requests), found.permits) == ({2}, {})


@given(st.dictionaries(st.sampled_from(["id", "request", "pid", "by"]), st.integers() | st.text() | st.binary()))
def test_malformed_records_are_refused(payload):
    for kind in ("gate.request", "permit.mint"):
        with pytest.raises(InvalidRequest):
            Approvals().take(kind, payload, 0)
