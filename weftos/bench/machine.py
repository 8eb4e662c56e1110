"""On what the figures were measured: processor, cores, system, load, and the versions of what took part."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any, Final

__all__ = ["machine", "versions"]

_PACKAGES: Final = ("weftos", "numpy", "msgspec", "posix_ipc", "blake3", "cryptography", "faiss-cpu")
_PEERS: Final = ("faster-fifo", "pyzmq", "iceoryx2", "hnswlib")


def machine() -> dict[str, Any]:
    """Describe this machine: ``cpu``, ``cores`` (usable by this process), ``memory_bytes``, ``system``, ``load``."""
    cpu = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    except OSError:
        # Not Linux; what the platform module knows has to do.
        pass
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def versions(*, peers: bool) -> dict[str, str]:
    """Return the versions of interpreter, SQLite and packages; what is not installed is left out."""
    import sqlite3

    found = {"python": platform.python_version(), "sqlite3": sqlite3.sqlite_version}
    for name in _PACKAGES + (_PEERS if peers else ()):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
