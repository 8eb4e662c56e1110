"""A question in words to a memory space: made a vector here, as its collection demands, and sent to the kernel."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from weftos.cli.session import connect, instance
from weftos.config import load
from weftos.ecc.embedding.provider import EmbeddingIdentity, EmbeddingProvider
from weftos.ecc.embedding.registry import make_provider
from weftos.ecc.vectors.filters import And, Eq, Filter, Value
from weftos.errors import CollectionNotFound, IdentityMismatch, InvalidRequest
from weftos.rpc import ecc_types as e
from weftos.service.memory_settings import embedding_settings

__all__ = ["condition_from", "provider_for", "recall_from"]


def condition_from(texts: Sequence[str]) -> Filter | None:
    """Parse ``field=value`` conditions, all of which must hold; a value that is JSON (``3``, ``true``) is that.

    Raises:
        InvalidRequest: a text is no condition.
    """
    parts = []
    for text in texts:
        field, equals, raw = text.partition("=")
        if not field or not equals:
            raise InvalidRequest(f"{text!r} is no condition; write FIELD=VALUE")
        parts.append(Eq(field, _value(raw)))
    return None if not parts else parts[0] if len(parts) == 1 else And(tuple(parts))


def _value(raw: str) -> Value:
    try:
        found = json.loads(raw)
    except ValueError:
        return raw
    return found if isinstance(found, bool | int | float | str) else raw


def provider_for(identity: EmbeddingIdentity | None, space: str) -> EmbeddingProvider:
    """Return the provider that made the vectors of a space.

    Raises:
        IdentityMismatch: it is not here, or the vectors were made by none.
    """
    if identity is None:
        raise IdentityMismatch(f"the vectors of {space!r} were made by no provider of embeddings; search it by vectors")
    provider = make_provider(embedding_settings(load(instance().config).memory))
    if provider.identity != identity:
        raise IdentityMismatch(
            f"the vectors of {space!r} were made by {identity.name}, {identity.dimension} dimensions; [memory] in "
            f"weftos.toml says {provider.identity.name}, {provider.identity.dimension}: `weaver config list` shows it"
        )
    return provider


def recall_from(space: str, question: str, k: int, where: Sequence[str] = ()) -> e.EccSearchResult:
    """Ask a space.

    Raises:
        CollectionNotFound: there is no such space.
        WeftError: the question cannot be embedded, or the kernel refused.
    """
    condition = condition_from(where)
    with connect() as client:
        spaces: list[e.SpaceView] = client.call("ecc.collections")
        held = next((row.collection for row in spaces if row.space == space), None)
        if held is None:
            names = ", ".join(row.space for row in spaces if row.collection is not None)
            raise CollectionNotFound(
                f"nothing is remembered in {space!r}; "
                + (f"there are {names}" if names else "`weaver run memory PATH` reads a folder into memory")
            )
        provider = provider_for(held.identity, space)
        vector = np.ascontiguousarray(provider.embed([question]), "<f4").tobytes()
        params = e.EccSearchParams(space=space, vector=vector, k=k, condition=condition, identity=provider.identity)
        found: e.EccSearchResult = client.call("ecc.search", params)
    return found
