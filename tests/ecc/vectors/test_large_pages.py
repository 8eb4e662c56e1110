from __future__ import annotations

import mmap

import numpy as np
import pytest

from weftos.ecc.vectors.pages import want_large_pages

MADVISED = hasattr(mmap, "MADV_HUGEPAGE")


@pytest.mark.parametrize("numbers", [0, 1, 1000])
def test_what_holds_no_large_page_is_left_alone(numbers):
    array = np.arange(numbers, dtype=np.float32)
    assert not want_large_pages(array)
    assert array.tolist() == list(range(numbers))


@pytest.mark.parametrize("begin", [0, 1, 1023])
def test_what_is_there_stays_as_it_is(begin):
    array = np.arange(3_000_000, dtype=np.float32)[begin:]
    before = array.tobytes()
    asked = want_large_pages(array)
    assert array.tobytes() == before
    array[:] = 7.0
    assert (array == 7.0).all()
    if not MADVISED:
        assert not asked


def test_where_there_are_none_nothing_is_asked(monkeypatch):
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    assert not want_large_pages(np.zeros(3_000_000, np.float32))
