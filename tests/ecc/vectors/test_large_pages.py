from __future__ import annotations

import mmap
import threading

import numpy as np
import pytest

from weftos.ecc.vectors.pages import want_large_pages

MADVISED = hasattr(mmap, "MADV_HUGEPAGE")


def gathered(*arrays: np.ndarray) -> bool:
    thread = want_large_pages(list(arrays), arrays)
    if thread is not None:
        thread.join()
    return thread is not None


@pytest.mark.parametrize("numbers", [0, 1, 1000])
def test_what_holds_no_large_page_is_left_alone(numbers):
    array = np.arange(numbers, dtype=np.float32)
    before = threading.active_count()
    assert not gathered(array)
    assert threading.active_count() == before
    assert array.tolist() == list(range(numbers))


@pytest.mark.parametrize("begin", [0, 1, 1023])
def test_what_is_there_stays_as_it_is(begin):
    array = np.arange(3_000_000, dtype=np.float32)[begin:]
    before = array.tobytes()
    asked = gathered(array, np.zeros(3, np.int32))
    assert array.tobytes() == before
    array[:] = 7.0
    assert (array == 7.0).all()
    assert not asked or MADVISED


def test_the_owner_is_kept_until_the_thread_is_done():
    class Owner:
        def __del__(self) -> None:
            ended.append(thread is None or not thread.is_alive() or threading.current_thread() is thread)

    ended: list[bool] = []
    thread = None
    owner = Owner()
    thread = want_large_pages([np.zeros(3_000_000, np.float32)], owner)
    del owner
    if thread is not None:
        thread.join()
    assert all(ended)


def test_where_there_are_none_nothing_is_asked(monkeypatch):
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    assert not gathered(np.zeros(3_000_000, np.float32))
