"""Strategies for changes and their parts."""

from __future__ import annotations

from hypothesis import strategies as st

from weftos.tree.deltas import (
    Created,
    MetadataRemoved,
    MetadataSet,
    PolicyRemoved,
    PolicySet,
    Removed,
    ScoringSet,
)
from weftos.tree.names import Action, Kind, Role
from weftos.tree.paths import ResourcePath
from weftos.tree.policies import Policy
from weftos.tree.scoring import Scoring

KINDS = st.sampled_from([Kind(name) for name in sorted(Kind.KNOWN)] + [Kind("custom:x")])
ROLES = st.sampled_from([Role(name) for name in sorted(Role.KNOWN)] + [Role("custom:x")])
ACTIONS = st.sampled_from([Action(name) for name in sorted(Action.KNOWN)] + [Action("custom:x")])
LABELS = st.sampled_from(["alice", "bob", "p1", "ä ö"])
#: Few names, so that changes meet.
PATHS = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=3).map(
    lambda parts: ResourcePath("/" + "/".join(parts))
)
UNIT = st.sampled_from([0.0, 0.25, 0.5, 1.0, 1 / 3])
SCORINGS = st.builds(Scoring, *[UNIT] * 6)
LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5) | st.binary(max_size=5)
VALUES = LEAVES | st.floats(allow_nan=False, allow_infinity=False) | st.lists(LEAVES, max_size=3)
METADATA = st.dictionaries(st.sampled_from(["k", "l", "state"]), VALUES, max_size=3)
POLICIES = st.builds(
    Policy,
    effect=st.sampled_from(["allow", "deny"]),
    principal=st.none() | LABELS,
    role=st.none() | ROLES,
    action=st.none() | ACTIONS,
)
DELTAS = st.one_of(
    st.builds(Created, path=PATHS, kind=KINDS, values=METADATA, scoring=SCORINGS),
    st.builds(Removed, path=PATHS),
    st.builds(MetadataSet, path=PATHS, values=METADATA.filter(bool)),
    st.builds(MetadataRemoved, path=PATHS, key=st.sampled_from(["k", "l"])),
    st.builds(ScoringSet, path=PATHS, scoring=SCORINGS),
    st.builds(PolicySet, path=PATHS, policy_id=LABELS, policy=POLICIES),
    st.builds(PolicyRemoved, path=PATHS, policy_id=LABELS),
)
