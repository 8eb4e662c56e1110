"""From the section ``[memory]`` of the configuration to the provider of embeddings that it names."""

from __future__ import annotations

from typing import Any, Final

from weftos.config import MemorySection
from weftos.ecc.embedding.registry import EmbeddingSettings

__all__ = ["embedding_settings"]

#: Which keys of the section each provider takes.
_TAKES: Final[dict[str, tuple[str, ...]]] = {
    "hashing": ("dimension",),
    "http": ("base_url", "model", "dimension", "key_file"),
    "local": ("folder",),
}


def embedding_settings(section: MemorySection) -> EmbeddingSettings:
    """Return what ``make_provider`` takes. Whether the provider can be had is found out when it is made."""
    parameters: dict[str, Any] = {name: getattr(section, name) for name in _TAKES[section.provider]}
    return EmbeddingSettings(section.provider, parameters)
