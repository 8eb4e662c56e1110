"""An agent's share of the store: never more than its limit, and all of it comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weftos import limits
from weftos.errors import ArtifactQuotaReached, ResourceLimitExceeded
from weftos.kernel.artifact_share import ArtifactShare

BLOCK = limits.ARTIFACT_BLOCK_BYTES
#: What can be put: a name, and always the same size under it.
SIZES = {"none": 0, "one": 1, "block": BLOCK, "more": BLOCK + 1, "large": 9 * BLOCK}

steps = st.lists(st.tuples(st.sampled_from(["put", "fail", "release"]), st.sampled_from(sorted(SIZES))), max_size=30)


@given(steps, st.integers(1, 20))
def test_the_share_is_the_sum_of_what_is_held(history, blocks):
    share, held, most = ArtifactShare(), set(), blocks * BLOCK
    for what, name in history:
        charge = max(1, -(-SIZES[name] // BLOCK)) * BLOCK
        if what == "release":
            share.release(name)
            held.discard(name)
            continue
        if share.used + charge > most:
            with pytest.raises(ArtifactQuotaReached):
                share.reserve(SIZES[name], most)
            continue
        assert share.reserve(SIZES[name], most) == charge
        assert share.used <= most
        if what == "put":
            share.keep(name, charge)
            held.add(name)
        else:
            share.give_back(charge)
        assert share.used == sum(max(1, -(-SIZES[one] // BLOCK)) * BLOCK for one in held)


def test_without_a_limit_nothing_is_counted():
    share = ArtifactShare()
    for number in range(100):
        share.keep(str(number), share.reserve(10**12, 0))
    assert share.used == 0


def test_few_requests_are_under_way_at_once():
    share = ArtifactShare()
    for _ in range(limits.ARTIFACT_IN_FLIGHT):
        share.enter()
    with pytest.raises(ResourceLimitExceeded):
        share.enter()
    share.leave()
    share.enter()
