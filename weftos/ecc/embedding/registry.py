"""From settings to a provider: one table. An unknown name or parameter is refused; nothing stands in for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from weftos.ecc.embedding.provider import EmbeddingProvider
from weftos.errors import EmbeddingRefused

__all__ = ["PROVIDERS", "EmbeddingSettings", "ProviderKind", "make_provider"]


class EmbeddingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which provider makes the vectors of an instance.

    Attributes:
        provider: a name of ``PROVIDERS``.
        parameters: of that provider; what is left out has its default.
    """

    provider: str = "hashing"
    parameters: dict[str, Any] = {}


class ProviderKind(msgspec.Struct, frozen=True):
    """One kind of provider: the type of its parameters, and how it is made of them."""

    parameters: type[msgspec.Struct]
    make: Callable[[Any], EmbeddingProvider]


def _hashing() -> ProviderKind:
    from weftos.ecc.embedding.hashing import HashingParameters, HashingProvider

    return ProviderKind(HashingParameters, HashingProvider)


def _http() -> ProviderKind:
    from weftos.ecc.embedding.http import HttpParameters, HttpProvider

    return ProviderKind(HttpParameters, HttpProvider)


def _local() -> ProviderKind:
    from weftos.ecc.embedding.local import LocalParameters, LocalProvider

    return ProviderKind(LocalParameters, LocalProvider)


#: The kinds there are: hashing of words (no model), a server with OpenAI's interface, a model on this machine. Each is
#: loaded when it is named, for it brings its own libraries.
PROVIDERS: Final[Mapping[str, Callable[[], ProviderKind]]] = {"hashing": _hashing, "http": _http, "local": _local}


def make_provider(settings: EmbeddingSettings) -> EmbeddingProvider:
    """Make the provider that settings name.

    Args:
        settings: name and parameters.

    Raises:
        EmbeddingRefused: no provider of that name, or a parameter that is unknown, missing or out of its range.
        EmbeddingNotInstalled, EmbeddingInvalid: see ``LocalProvider``.
    """
    load = PROVIDERS.get(settings.provider)
    if load is None:
        raise EmbeddingRefused(f"no provider {settings.provider!r:.100}; there are {', '.join(PROVIDERS)}")
    kind = load()
    try:
        parameters = msgspec.convert(settings.parameters, kind.parameters)
    except msgspec.ValidationError as error:
        raise EmbeddingRefused(f"parameters of the provider {settings.provider}: {error}") from None
    return kind.make(parameters)
