"""Waiting for processes that are not children of the test."""

from __future__ import annotations

import os
import select


def await_end(os_pid: int, timeout_s: float = 15.0) -> bool:
    """Wait until a process has ended (not: been reaped)."""
    try:
        handle = os.pidfd_open(os_pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], timeout_s)[0])
    finally:
        os.close(handle)
