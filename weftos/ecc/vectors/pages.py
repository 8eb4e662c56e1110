"""Large pages for memory that is read at random.

Why it is as it is: a graph jumps from vector to vector, and with pages of 4 KiB nearly each jump also misses in the
table of pages; with large ones (2 MiB on x86-64) a search takes a fifth less time, see
docs/decisions/0028-large-pages-and-columns.md. Not guaranteed: that the system gives any. It only costs time then.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Any, Final

from numpy.typing import NDArray

__all__ = ["want_large_pages"]

_LARGE: Final = 2 * 1024 * 1024
#: Numbers of Linux; ``mmap`` knows the first and, before Python 3.13, not the second.
_COLLAPSE: Final = 25


def want_large_pages(array: NDArray[Any]) -> bool:
    """Ask the system to hold an array in large pages: those that are written later, and as it can those that were.

    Returns:
        Whether it was asked and did not refuse; False for an array that holds no large page, and where there are none.
    """
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    begin = -(-array.ctypes.data // _LARGE) * _LARGE
    size = (array.ctypes.data + array.nbytes) // _LARGE * _LARGE - begin
    if advice is None or size <= 0:
        return False
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    where = ctypes.c_void_p(begin), ctypes.c_size_t(size)
    asked = bool(madvise(*where, ctypes.c_int(advice)) == 0)
    # Refused before Linux 6.1; then the system gathers the pages by and by.
    madvise(*where, ctypes.c_int(_COLLAPSE))
    return asked
