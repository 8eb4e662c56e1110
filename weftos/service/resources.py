"""The resource tree as an agent sees it: ``ctx.resources``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from weftos import limits
from weftos.service.client import ServiceClient
from weftos.service.protocol import Done
from weftos.service.tree_protocol import AskTree

__all__ = ["Resources"]


class Resources:
    """Read access to a part of the tree: the agent's own node, and what rules or certificates let it read.

    Certificates are given as bytes, as ``weaver resource delegate issue`` makes them: the first one first, each
    followed by the one that rests on it. The last must be for this agent.

    Args:
        client: of the service.
    """

    def __init__(self, client: ServiceClient) -> None:
        self._client = client

    def tree(
        self,
        path: str = "/",
        *,
        limit: int = 1000,
        certificates: Sequence[bytes] = (),
        timeout_s: float = limits.SERVICE_TIMEOUT_S,
    ) -> list[dict[str, Any]]:
        """Return a resource and what can be seen below it, each before what is below it.

        As many as ``limit``, and as fit one answer.

        Raises:
            CapabilityDenied: it cannot be seen from here, whether it exists or not.
            DelegationError: the certificates give nothing.
            NodeNotFound: there is no such resource.
            ServiceUnavailable: no answer in time.
        """
        nodes: list[dict[str, Any]] = self._ask("tree", path, {"limit": limit}, certificates, timeout_s)["nodes"]
        return nodes

    def inspect(
        self, path: str, *, certificates: Sequence[bytes] = (), timeout_s: float = limits.SERVICE_TIMEOUT_S
    ) -> dict[str, Any]:
        """Return one resource, with the paths of its children that can be seen; errors as for ``tree``."""
        return self._ask("inspect", path, {}, certificates, timeout_s)

    def rank(
        self, weights: Sequence[float] = (), *, limit: int = 10, timeout_s: float = limits.SERVICE_TIMEOUT_S
    ) -> list[tuple[str, float]]:
        """Return the resources with the best figures among those that can be seen, the best first."""
        values = self._ask("rank", "/", {"weights": list(weights), "limit": limit}, (), timeout_s)
        return [(path, value) for path, value in values["ranked"]]

    def _ask(
        self, question: str, path: str, params: dict[str, Any], certificates: Sequence[bytes], timeout_s: float
    ) -> dict[str, Any]:
        request = AskTree(question, path, params, list(certificates))
        return self._client.ask(request, Done, timeout_s).values
