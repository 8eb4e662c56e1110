"""One run of the memory job: what it is given, and what comes of it. What every job does is in ``agent_job.py``."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weftos import limits
from weftos.cli.agent_job import AgentJob, kernel_for_job
from weftos.errors import InvalidRequest

if TYPE_CHECKING:
    from weftos.rpc.client import RpcClient

__all__ = ["MemoryJob"]


class MemoryJob:
    """One run.

    Args:
        root: the folder, absolute and without links.
        space: where its passages go.
        readers: how many agents read.
        exclude: patterns of what is left out.
        profile: how the agents are confined.

    Raises:
        InvalidRequest: the folder has no name that can be shown.
    """

    def __init__(self, root: Path, *, space: str, readers: int, exclude: list[str], profile: str) -> None:
        try:
            str(root).encode()
        except UnicodeEncodeError:
            raise InvalidRequest(f"{os.fsencode(root)!r} is not UTF-8, and what is read must be named") from None
        if not root.name:
            raise InvalidRequest(f"{root} has no name of its own to show; name a folder in it")
        self._name = secrets.token_hex(6)
        self._readers = readers
        self._root = str(root)
        self._params = {
            "program": "memory",
            "name": f"memory-{self._name}",
            "args": [self._root, space, self._name, str(readers), json.dumps(exclude)],
            # A child may hold no more than its parent, and the keeper needs this.
            "limits": {"memory_bytes": limits.MEMORY_KEEPER_BYTES},
            # The agents may read the folder, and nothing else of the user's.
            "sandbox": {"profile": profile, "readable": [self._root] if profile != "trusted" else []},
        }
        self._space = space

    def run(self, *, show_progress: bool) -> dict[str, Any]:
        """Do the job and return its summary, as ``--json`` shows it.

        Raises:
            ServiceError: it was not completed, and why; the next run makes good what it left.
            WeftError: it was refused: by the gate, or because the space holds something else.
        """
        from weftos.cli.job_view import progress

        failed = "the folder was not read to its end; run it again, what is in memory already is not read twice"
        job = AgentJob(self._params, failed)
        with kernel_for_job() as client:
            result = job.run(client, progress(show_progress))
            # What was changed gets its record now, if it has none yet, so that all of it lies before the newest.
            client.call("ecc.tick")
            found = result.summary
            seconds = result.elapsed_s
            return found | {
                "last_seq": client.call("chain.status").head_seq,
                "elapsed_secs": round(seconds, 3),
                "passages_per_sec": round(found["passages"] / seconds, 1),
                "readers": self._readers,
                "agents": result.agents,
                "holds": self._holds(client),
            }

    def _holds(self, client: RpcClient) -> dict[str, Any]:
        """What the space holds now, of all folders that were read into it."""
        row = next((row for row in client.call("ecc.collections") if row.space == self._space), None)
        if row is None or row.collection is None:
            return {"entries": 0, "nodes": 0, "edges": 0}
        return {"entries": row.collection.live, "nodes": row.nodes, "edges": row.edges}
