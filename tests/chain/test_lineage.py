"""A story of derivations holds, or it is told which step does not, and why."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos.chain.records.canonical import decode_payload, encode_payload
from weftos.chain.statements.lineage import Derivation, verify_lineage
from weftos.errors import AppendRefused


def digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def step(child, parent=None, how="transform", **more):
    return Derivation(child, digest(child), parent, digest(parent) if parent else None, how, **more)


def codes(*events):
    report = verify_lineage(events)
    assert report.valid == (not report.problems)
    return [(problem.index, problem.code) for problem in report.problems]


# --- stories ----------------------------------------------------------------------------------------------------------


@st.composite
def stories(draw):
    """A good story: each thing is an origin, comes from one earlier thing, or is merged from several."""
    events, names = [], []
    for number in range(draw(st.integers(1, 12))):
        child = f"n{number}"
        parents = draw(st.lists(st.sampled_from(names), unique=True, max_size=3)) if names else []
        if len(parents) > 1:
            events += [step(child, parent, "merge") for parent in parents]
        else:
            kind = draw(st.sampled_from(["clone", "filter", "quantize", "reindex", "snapshot", "user", "merge"]))
            events.append(step(child, parents[0] if parents else None, kind))
        names.append(child)
    return events


@given(stories())
def test_a_good_story_is_good(events):
    report = verify_lineage(events)
    assert report.valid
    assert report.things == len({event.child for event in events})
    assert report.origins == sum(event.parent is None for event in events)


@given(stories(), st.data())
def test_a_changed_hash_is_found(events, data):
    at = data.draw(st.integers(0, len(events) - 1))
    event = events[at]
    other = digest("other")
    if event.parent is not None and data.draw(st.booleans()):
        events[at] = msgspec.structs.replace(event, parent_hash=other)
        assert codes(*events) == [(at, "parent_hash")]
    else:
        events[at] = msgspec.structs.replace(event, child_hash=other)
        merged = [n for n, e in enumerate(events) if e.child == event.child]
        made_from = [(n, "parent_hash") for n, e in enumerate(events) if e.parent == event.child]
        # The first event of a child says which hash is recorded; the others are measured against it.
        if at == merged[0]:
            assert codes(*events) == sorted([(n, "child_hash") for n in merged[1:]] + made_from)
        else:
            assert codes(*events) == [(at, "child_hash")]


@given(stories(), st.randoms())
def test_any_order_but_the_right_one_is_a_matter_of_order(events, random):
    """Reordering a good story never makes a cycle or a wrong hash of it."""
    random.shuffle(events)
    assert {code for _, code in codes(*events)} <= {"parent_later"}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=10, unique=True))
def test_cycles_are_those_that_a_walk_finds(edges):
    things = sorted({name for edge in edges for name in edge})
    events = [step(f"n{name}", "origin", "merge") for name in things]
    events = [step("origin"), *events, *(step(f"n{child}", f"n{parent}", "merge") for child, parent in edges)]

    def reaches(start, goal):
        seen, work = set(), [start]
        while work:
            node = work.pop()
            if node == goal:
                return True
            if node not in seen:
                seen.add(node)
                work += [parent for child, parent in edges if child == node]
        return False

    found = {index for index, code in codes(*events) if code == "cycle"}
    offset = len(events) - len(edges)
    assert found == {offset + n for n, (child, parent) in enumerate(edges) if reaches(parent, child)}


def test_each_fault_has_its_code():
    a, b = step("a"), step("b", "a")
    assert codes(a, step("b", "x")) == [(1, "parent_missing")]
    assert codes(b, a) == [(0, "parent_later")]
    assert codes(step("a", "a")) == [(0, "cycle")]
    assert codes(step("a", "b"), step("b", "a")) == [(0, "cycle"), (1, "cycle")]
    assert codes(a, b, b) == [(2, "repeated")]
    assert codes(a, a) == [(1, "repeated")]
    assert codes(a, b, step("b", "a", "merge")) == [(2, "repeated")]
    merged = [step("c", "a", "merge"), step("c", "b", "merge")]
    assert codes(a, b, *merged) == []
    assert codes(a, b, *merged, merged[0]) == [(4, "repeated")]
    assert codes(a, b, *merged, step("c", None, "merge")) == [(4, "repeated")]
    # The second parent came to be when the child was there already.
    assert codes(a, step("c", "a", "merge"), step("b"), step("c", "b", "merge")) == [(3, "parent_later")]
    # A parent that is made from the child: in the log's order it would look like a late parent only.
    assert codes(a, step("c", "a", "merge"), step("d", "c"), step("c", "d", "merge")) == [(2, "cycle"), (3, "cycle")]
    assert codes() == []


def test_one_fault_does_not_bring_down_what_follows():
    events = [step("a"), step("b", "lost"), *(step(f"c{n}", f"c{n - 1}" if n else "b") for n in range(50))]
    assert codes(*events) == [(1, "parent_missing")]


def test_a_long_story_is_no_matter_of_recursion():
    count = 50_000
    events = [step("n0"), *(step(f"n{n}", f"n{n - 1}") for n in range(1, count))]
    assert verify_lineage(events).things == count
    problems = verify_lineage(events[::-1]).problems
    assert len(problems) == count - 1
    assert {problem.code for problem in problems} == {"parent_later"}


# --- payloads ---------------------------------------------------------------------------------------------------------


@given(stories(), st.integers(0, 2**64 - 1), st.text("abc ä", min_size=0, max_size=20))
def test_a_payload_keeps_a_derivation(events, mutations, description):
    for event in events:
        told = msgspec.structs.replace(event, mutations=mutations, description=description)
        assert Derivation.from_payload(decode_payload(encode_payload(told.to_payload()))) == told


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": True},
        {"more": 1},
        {"child": ""},
        {"child": "a\nb"},
        {"child": "x" * 257},
        {"child": 7},
        {"child_hash": b"x"},
        {"child_hash": "x" * 32},
        {"parent": None},
        {"parent_hash": None},
        {"parent_hash": bytes(31)},
        {"type": "copy"},
        {"type": ["clone"]},
        {"mutations": -1},
        {"mutations": 2**64},
        {"mutations": 1.0},
        {"mutations": True},
        {"description": "x" * 5000},
        {"description": None},
    ],
)
def test_a_payload_of_another_form_is_refused(change):
    good = step("b", "a").to_payload()
    with pytest.raises(AppendRefused):
        Derivation.from_payload({**good, **change})
    for name in good:
        with pytest.raises(AppendRefused):
            Derivation.from_payload({key: value for key, value in good.items() if key != name})


def test_a_malformed_derivation_makes_no_payload():
    with pytest.raises(AppendRefused, match="derivation is one of"):
        step("a", how="copy").to_payload()
