"""One kernel double per test, with everything it made gone afterwards."""

from __future__ import annotations

import os

import pytest
from kernel_double import KernelDouble, leftovers


@pytest.fixture
def kernel(tmp_path):
    before = set(os.listdir("/proc/self/fd"))
    double = KernelDouble(tmp_path)
    yield double
    double.close()
    assert leftovers(double.prefix) == []
    assert set(os.listdir("/proc/self/fd")) == before
