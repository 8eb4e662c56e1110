"""One run of the inventory job: what it is given, and what comes of it. What every job does is in ``agent_job.py``."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from weftos import limits
from weftos.cli.agent_job import AgentJob, JobResult, kernel_for_job
from weftos.cli.session import instance

if TYPE_CHECKING:
    from weftos_workers.inventory_record import Recorded  # type: ignore[import-not-found]

__all__ = ["InventoryJob"]

_COUNTS: Final = (
    "files",
    "bytes",
    "links",
    "hard_links",
    "skipped",
    "duplicates",
    "duplicate_bytes",
    "problems",
)


class InventoryJob:
    """One run.

    Args:
        root: the folder, absolute and without links.
        hashers: how many agents hash.
        exclude: patterns of what is left out; ``None`` for those of the record that is compared with.
    """

    def __init__(self, root: Path, *, hashers: int, exclude: list[str] | None, profile: str = "standard") -> None:
        self.root = root
        self.name = secrets.token_hex(6)
        self.home = instance()
        self._hashers = hashers
        self._exclude = exclude
        self._profile = profile
        self._against: Recorded | None = None

    def compare_with_record(self) -> bool:
        """Make this run a check: verify the chain and find the last inventory of this folder.

        Returns:
            Whether there is one.

        Raises:
            ChainCorrupted: the log is not intact.
        """
        from weftos_workers.inventory_record import last_recorded

        from weftos import chain
        from weftos.errors import ChainCorrupted

        if not any(self.home.chain.glob("*.log")):
            return False
        report = chain.verify(str(self.home.chain))
        if not report.valid:
            first = report.errors[0]
            raise ChainCorrupted(f"the log is not intact, so there is nothing to compare with: {first.detail}")
        self._against = last_recorded(str(self.home.chain), os.fsencode(self.root))
        if self._against is not None and self._exclude is None:
            self._exclude = self._against.exclude
        return self._against is not None

    def run(self, *, show_progress: bool) -> dict[str, Any]:
        """Do the job and return its summary, as ``--json`` shows it.

        Raises:
            ServiceError: the inventory was not completed, and why; nothing complete is recorded.
        """
        import msgspec

        from weftos.cli.job_view import progress

        args = [
            os.fsencode(self.root).hex(),
            self.name,
            msgspec.json.encode(self._against).decode(),
            str(self._hashers),
            msgspec.json.encode(self._exclude or []).decode(),
        ]
        params = {
            "program": "inventory",
            "name": f"inventory-{self.name}",
            "args": args,
            # A child may hold no more than its parent, and the recorder needs this.
            "limits": {"memory_bytes": limits.INVENTORY_MEMORY_BYTES},
            "sandbox": self._sandbox(),
        }
        job = AgentJob(params, "the inventory was not completed, and nothing complete is recorded")
        with kernel_for_job() as client:
            return self._summary(job.run(client, progress(show_progress)))

    def _sandbox(self) -> dict[str, Any]:
        """The agents may read the folder, and nothing else of the user's; with a name that is no text they are trusted.

        One of them reads the log as well, to compare.
        """
        root = os.path.realpath(self.root)
        try:
            os.fsencode(root).decode()
        except UnicodeDecodeError:
            return {"profile": "trusted"}
        paths = [root, os.path.realpath(self.home.chain)]
        return {"profile": self._profile, "readable": paths if self._profile != "trusted" else []}

    def _summary(self, result: JobResult) -> dict[str, Any]:
        from weftos_workers.inventory_names import shown  # type: ignore[import-not-found]

        found = result.summary
        summary: dict[str, Any] = {
            "root": shown(os.fsencode(self.root)),
            "check": self._against is not None,
            **{name: found[name] for name in _COUNTS},
            "errors": found["errors"],
            "exclude": self._exclude or [],
            "elapsed_secs": round(result.elapsed_s, 3),
            "bytes_per_sec": round(found["bytes"] / result.elapsed_s, 1),
            "hashers": self._hashers,
            "agents": result.agents,
            "record": {
                "run": self.name,
                "first_seq": found["first_seq"],
                "last_seq": found["last_seq"],
                "root_digest": found["root_digest"],
            },
        }
        names = ("changed", "added", "removed", "unreadable", "counts", "against")
        return summary | {name: found[name] for name in names if name in found}
