"""Identifiers: how each is formed, and what makes it unique.

A forked child inherits every counter of its parent, so no id here comes from a process-wide counter: ids are random, or
derived from
something that only one process can write (a ring position, a kernel pid with its incarnation).
"""

from __future__ import annotations

import os
from typing import NewType

import blake3

__all__ = ["KERNEL_PID", "BootId", "Pid", "RingId", "instance_tag", "message_id", "new_boot_id"]

#: Kernel process id: 0 is the kernel, agents count from 1, a number is never used twice within one boot.
Pid = NewType("Pid", int)
#: Number of a ring within one boot, given by the kernel, from 1.
RingId = NewType("RingId", int)
#: 16 random bytes that name one boot of one kernel.
BootId = NewType("BootId", bytes)

KERNEL_PID = Pid(0)


def new_boot_id() -> BootId:
    """Return 16 random bytes from the operating system."""
    return BootId(os.urandom(16))


def instance_tag(home: str) -> str:
    """Return 12 hex digits that name the instance living in ``home``; prefix of all its named kernel objects."""
    return blake3.blake3(os.fsencode(os.path.realpath(home))).hexdigest(length=6)


def message_id(ring_id: int, position: int) -> str:
    """Name a message by where it lay: rings are never reused within a boot, so both ends derive the same id.

    Args:
        ring_id: the ring that carried it.
        position: byte position of its record in the ring's stream, plus its index within a batch record.
    """
    return f"{ring_id:x}-{position:x}"
