"""A signed log for each attack."""

from __future__ import annotations

import pytest
from forged_logs import Forger, Target


@pytest.fixture
def target(tmp_path):
    return Target.build(tmp_path)


@pytest.fixture
def forger(target):
    return Forger(target.segment)
