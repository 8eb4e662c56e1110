"""An interpreter and its packages that other users can read, for kernels whose agents are users of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from functools import lru_cache
from pathlib import Path

from weftos.config import SandboxSection
from weftos.kernel.own_users import machine_obstacle
from weftos.sandbox import reach
from weftos.sandbox.users import OwnUser

ROOT = Path(__file__).parents[2]
ANYBODY = OwnUser(1_999_999_999, 1_999_999_999)
TAG = "0" * 12
OURS = sys.executable


@lru_cache(maxsize=1)
def interpreter() -> tuple[str, str]:
    """Return an interpreter of this version that others can use, and why there is none."""
    if os.geteuid() != 0:
        return "", "only root gives users away"
    if not machine_obstacle(SandboxSection(), TAG):
        return OURS, ""
    packages = (str(ROOT), str(ROOT / "weftos" / "__init__.py"), sysconfig.get_path("purelib"))
    if why := reach.obstacle([(path, reach.READ) for path in packages], ANYBODY):
        return "", why
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for path in (f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"):
        if os.path.exists(path):
            tell = "import sys; print(sys.abiflags, sys.prefix)"
            done = subprocess.run([path, "-IBc", tell], capture_output=True, text=True, check=False)
            if done.returncode == 0 and done.stdout.split() == [*sys.abiflags.split(), "/usr"]:
                return path, ""
    return "", f"no Python {version} that others can read"


def environment(folder: Path) -> dict[str, str]:
    """Return what makes that interpreter find this source and the packages of ours.

    Args:
        folder: one that others may pass; a link is made in it.
    """
    if interpreter()[0] == OURS:
        return {}
    library = folder / "library"
    library.mkdir(mode=0o755)
    (library / "weftos_workers").symlink_to(ROOT / "workers")
    path = (str(ROOT), sysconfig.get_path("purelib"), str(library))
    return {"PYTHONPATH": os.pathsep.join(path), "PYTHONDONTWRITEBYTECODE": "1"}
