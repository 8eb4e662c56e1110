"""Large pages for memory that is read at random.

Why it is as it is: a graph jumps from vector to vector, and with pages of 4 KiB nearly each jump also misses in the
table of pages; with large ones (2 MiB on x86-64) a search takes a fifth less time, see
docs/decisions/0028-large-pages-and-columns.md. To gather pages that were written takes the system a second for each
300 MB, so a thread waits for that, and searches go on meanwhile. Not guaranteed: that the system gives any.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
from typing import Any, Final

from numpy.typing import NDArray

__all__ = ["want_large_pages"]

_LARGE: Final = 2 * 1024 * 1024
#: Number of Linux for MADV_COLLAPSE, from 6.1 on; ``mmap`` does not know it before Python 3.13.
_COLLAPSE: Final = 25


def want_large_pages(arrays: list[NDArray[Any]], owner: object) -> threading.Thread | None:
    """Ask the system to hold arrays in large pages. What is in them stays as it is.

    Args:
        arrays: what is read at random.
        owner: what the memory of the arrays belongs to; kept until the thread is done.

    Returns:
        The thread that waits for the system; None where there are no large pages, no array holds one, or it refuses.
    """
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if advice is None:
        return None
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    asked = [span for span in map(_span, arrays) if span[1].value and madvise(*span, ctypes.c_int(advice)) == 0]

    def gather(_owner: object) -> None:
        for begin, size in asked:
            # Where it is refused, the system gathers them by and by.
            madvise(begin, size, ctypes.c_int(_COLLAPSE))

    if not asked:
        return None
    thread = threading.Thread(target=gather, args=(owner,), name="large-pages", daemon=True)
    thread.start()
    return thread


def _span(array: NDArray[Any]) -> Any:
    """Return where the first whole large page of an array begins, and the bytes of all of them; 0 for none."""
    begin = -(-array.ctypes.data // _LARGE) * _LARGE
    end = (array.ctypes.data + array.nbytes) // _LARGE * _LARGE
    return ctypes.c_void_p(begin), ctypes.c_size_t(max(end - begin, 0))
