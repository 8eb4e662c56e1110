"""The constitution: what is in force is the sum of its records, and nobody loosens another branch's rules."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from questions import CONSTITUTION, KEYS, PUBLIC, QUESTIONS, RULES, ask

from weftos.errors import GovernanceDenied, InvalidRequest
from weftos.governance.articles import ARTICLES
from weftos.governance.constitution import GENESIS_KIND, SUPERSEDE_KIND, Constitution, Genesis, Supersede
from weftos.governance.rules import Branch

BEGIN = (GENESIS_KIND, Genesis(keys=PUBLIC).to_payload())
STRICT = {"permit": 0, "permit_with_warning": 1, "escalate_to_human": 2, "deny": 3}


def change(on, *branches, **fields):
    made = Supersede(previous=on.hash, version=on.version + 1, **({"reason": "a test"} | fields))
    return msgspec.structs.replace(
        made, signatures={branch: KEYS[branch].sign(made.message()) for branch in (branches or Branch)}
    )


def rule(name, branch=Branch.EXECUTIVE, **more):
    return msgspec.structs.replace(ARTICLES[5], id=name, branch=branch, **more)


def test_it_begins_and_is_added_up_from_payloads():
    assert Constitution.fold([]) is None
    found = Constitution.fold([BEGIN])
    assert found == CONSTITUTION
    assert found.hash == CONSTITUTION.hash
    changed = change(found, added=(rule("NEW-1"),))
    after = Constitution.fold([BEGIN, (SUPERSEDE_KIND, changed.to_payload())])
    assert after == found.superseded_by(changed)
    assert (after.version, len(after.rules)) == (2, 23)
    assert after.hash != found.hash


@given(
    st.binary(max_size=200) | st.dictionaries(st.text(max_size=5), st.integers() | st.binary(max_size=4), max_size=4)
)
def test_payloads_of_any_kind_are_answered(payload):
    for kind in (GENESIS_KIND, SUPERSEDE_KIND):
        with pytest.raises(InvalidRequest):
            Constitution.fold([BEGIN, (kind, payload)])


def test_it_does_not_begin_twice_nor_change_before_it_begins():
    with pytest.raises(InvalidRequest, match="two constitutions"):
        Constitution.fold([BEGIN, BEGIN])
    with pytest.raises(InvalidRequest, match="before its beginning"):
        Constitution.fold([(SUPERSEDE_KIND, change(CONSTITUTION, risk_threshold=0.5).to_payload())])


def test_a_branch_adds_rules_of_its_own_alone():
    added = rule("NEW-1", Branch.EXECUTIVE)
    assert CONSTITUTION.superseded_by(change(CONSTITUTION, Branch.EXECUTIVE, added=(added,))).version == 2
    with pytest.raises(GovernanceDenied, match="executive"):
        CONSTITUTION.superseded_by(change(CONSTITUTION, Branch.JUDICIAL, added=(added,)))


@pytest.mark.parametrize(
    "fields",
    [
        {"removed": ("GOV-001",)},
        {"added": (msgspec.structs.replace(ARTICLES[0], active=False),)},
        {"risk_threshold": 0.8},
    ],
)
def test_what_could_be_milder_takes_all_three(fields):
    CONSTITUTION.superseded_by(change(CONSTITUTION, *Branch, **fields))
    for missing in Branch:
        with pytest.raises(GovernanceDenied, match=str(missing)):
            CONSTITUTION.superseded_by(change(CONSTITUTION, *(one for one in Branch if one is not missing), **fields))


def test_a_stricter_threshold_takes_the_judicial_branch():
    assert CONSTITUTION.superseded_by(change(CONSTITUTION, Branch.JUDICIAL, risk_threshold=0.5)).risk_threshold == 0.5
    with pytest.raises(GovernanceDenied):
        CONSTITUTION.superseded_by(change(CONSTITUTION, Branch.EXECUTIVE, risk_threshold=0.5))


def test_signatures_are_over_this_change_and_of_this_branch():
    good = change(CONSTITUTION, risk_threshold=0.9)
    with pytest.raises(GovernanceDenied, match="not over this change"):
        CONSTITUTION.superseded_by(msgspec.structs.replace(good, risk_threshold=1.0))
    swapped = {Branch.LEGISLATIVE: good.signatures[Branch.JUDICIAL]}
    with pytest.raises(GovernanceDenied, match="legislative"):
        CONSTITUTION.superseded_by(msgspec.structs.replace(good, signatures=good.signatures | swapped))


def test_a_change_is_used_once_and_in_its_place():
    first = change(CONSTITUTION, Branch.EXECUTIVE, added=(rule("NEW-1"),))
    after = CONSTITUTION.superseded_by(first)
    with pytest.raises(GovernanceDenied, match="another constitution"):
        after.superseded_by(first)
    skipping = change(msgspec.structs.replace(CONSTITUTION, version=5), added=(rule("NEW-2"),))
    with pytest.raises(GovernanceDenied):
        CONSTITUTION.superseded_by(skipping)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({}, "changes nothing"),
        ({"removed": ("GOV-999",)}, "no rule GOV-999"),
        ({"added": (rule("NEW-1"), rule("NEW-1"))}, "each rule once"),
        ({"added": (rule("GOV-001"),), "removed": ("GOV-001",)}, "each rule once"),
        ({"risk_threshold": 2.0}, "from 0 to 1"),
        ({"risk_threshold": 0.5, "reason": ""}, "reason"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(fields, match):
    with pytest.raises(InvalidRequest, match=match):
        CONSTITUTION.superseded_by(change(CONSTITUTION, **fields))


def test_a_genesis_without_all_keys_is_refused():
    with pytest.raises(InvalidRequest, match="public key"):
        Constitution.begin(Genesis(keys={Branch.JUDICIAL: PUBLIC[Branch.JUDICIAL]}))


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["add", "remove", "replace", "threshold"]), st.sampled_from(Branch), RULES, st.floats(0, 1)
    ),
    max_size=6,
)


@settings(max_examples=60)
@given(ACTS, QUESTIONS)
def test_no_branch_alone_ever_loosens_anything(acts, question):
    """Whatever one branch does, with its own key and whatever it likes, the answer gets no milder."""
    effect, action, environment = question
    asked = ask(effect, action, environment)
    now = CONSTITUTION
    for what, branch, new, threshold in acts:
        before = now.engine().evaluate(asked, environment).verdict
        names = [one.id for one in now.rules]
        fields = {
            "add": {"added": (new,)},
            "remove": {"removed": (names[hash(new.id) % len(names)],)},
            "replace": {"added": (msgspec.structs.replace(new, id=names[hash(new.id) % len(names)]),)},
            "threshold": {"risk_threshold": threshold},
        }[what]
        try:
            now = now.superseded_by(change(now, branch, **fields))
        except (GovernanceDenied, InvalidRequest):
            continue
        after = now.engine().evaluate(asked, environment).verdict
        assert STRICT[after] >= STRICT[before]
        assert now.risk_threshold <= CONSTITUTION.risk_threshold
